package mailtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"anycastle/internal/proctest"
)

// people gives the addresses of users of a benchmark.
func people(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("u%d@example.org", i))
	}
	return list
}

// openDir makes a folder through which the users of a peer's own can pass. The test's is closed to them.
func (s *site) openDir(name string) string {
	s.t.Helper()
	dir, err := os.MkdirTemp("", name+"-")
	proctest.Check(s.t, err)
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	proctest.Check(s.t, os.Chmod(dir, 0o755))
	return dir
}

// give makes folders, with all that is in them, those of another user.
func (s *site) give(user string, dirs ...string) {
	s.t.Helper()
	if out, err := exec.Command("chown", append([]string{"-R", user}, dirs...)...).CombinedOutput(); err != nil {
		s.t.Fatalf("chown: %v: %s", err, out)
	}
}

const dovecotConfig = `
base_dir = DIR/run
state_dir = DIR/state
protocols = imap lmtp
listen = 127.0.0.1
log_path = DIR/log
default_login_user = dovenull
default_internal_user = dovecot
default_client_limit = 1000
default_process_limit = 200
default_vsz_limit = 0
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:DIR/mail/%u
ssl = required
ssl_cert = <CERT
ssl_key = <KEY
disable_plaintext_auth = yes
mail_max_userip_connections = 0
passdb {
  driver = static
  args = password=PASSWORD
}
userdb {
  driver = static
  args = uid=mail gid=mail home=DIR/home/%u allow_all_users=yes
}
namespace inbox {
  inbox = yes
  separator = .
}
service imap-login {
  service_count = 0
  process_min_avail = 2
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = 2993
    ssl = yes
  }
}
service lmtp {
  process_min_avail = 2
  unix_listener DIR/lmtp {
    mode = 0666
  }
}
`

// dovecot runs Dovecot, with IMAP over TLS at 127.0.0.1:2993 and LMTP at a socket in the folder that it gives. It has a copy of
// the mailboxes in a tree, or none. Mail is flushed to disk before it is acknowledged: Dovecot's own default.
func (s *site) dovecot(tree string) (dir string) {
	s.t.Helper()
	dir = s.openDir("dovecot")
	for _, sub := range []string{"run", "state", "mail", "home"} {
		proctest.Check(s.t, os.MkdirAll(dir+"/"+sub, 0o755))
	}
	if tree != "" {
		if out, err := exec.Command("cp", "-a", tree+"/.", dir+"/mail").CombinedOutput(); err != nil {
			s.t.Fatalf("cp: %v: %s", err, out)
		}
	}
	s.give("mail", dir+"/mail", dir+"/home")
	text := strings.NewReplacer("DIR", dir, "CERT", s.tls.Cert, "KEY", s.tls.Key, "PASSWORD", password).Replace(dovecotConfig)
	p := proctest.Start(s.t, s.ns, "dovecot", dir, "dovecot", "-F", "-c", s.write("dovecot.conf", text))
	proctest.Eventually(s.t, "dovecot listens", func() bool {
		if p.Ended() {
			log, _ := os.ReadFile(dir + "/log")
			s.t.Fatalf("dovecot has ended:\n%s\n%s", p.Log(), log)
		}
		return s.dial("127.0.0.1:2993") == nil
	})
	s.t.Cleanup(p.Stop) // by itself it takes its children along
	s.t.Cleanup(func() {
		if log, err := os.ReadFile(dir + "/log"); err == nil && s.t.Failed() {
			s.t.Logf("dovecot's log:\n%s", log)
		}
	})
	return dir
}

const postfixConfig = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = DIR/log
maillog_file_prefixes = /
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.org
mydestination =
virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:yes
virtual_transport = lmtp:unix:LMTP
mynetworks = 127.0.0.0/8
message_size_limit = 52428800
default_process_limit = 200
smtpd_peername_lookup = no
lmtp_destination_concurrency_limit = 20
virtual_alias_maps =
alias_maps =
smtputf8_enable = no
`

const postfixMaster = `2525 inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
`

// postfix runs Postfix at 127.0.0.1:2525, which hands all mail over to an LMTP socket.
func (s *site) postfix(lmtp string) {
	s.t.Helper()
	dir := s.openDir("postfix")
	proctest.Check(s.t, os.MkdirAll(dir+"/queue", 0o755))
	proctest.Check(s.t, os.MkdirAll(dir+"/data", 0o755))
	s.give("postfix", dir+"/data")
	conf := strings.NewReplacer("DIR", dir, "LMTP", lmtp).Replace(postfixConfig)
	proctest.Check(s.t, os.WriteFile(dir+"/main.cf", []byte(conf), 0o644))
	proctest.Check(s.t, os.WriteFile(dir+"/master.cf", []byte(postfixMaster), 0o644))
	made := proctest.Start(s.t, s.ns, "postfix check", dir, "postfix", "-c", dir, "check") // makes its folders
	proctest.Check(s.t, made.Wait())
	p := proctest.Start(s.t, s.ns, "postfix", dir, "/usr/lib/postfix/sbin/master", "-c", dir, "-d")
	proctest.Eventually(s.t, "postfix listens", func() bool {
		if p.Ended() {
			log, _ := os.ReadFile(dir + "/log")
			s.t.Fatalf("postfix has ended:\n%s\n%s", p.Log(), log)
		}
		return s.dial("127.0.0.1:2525") == nil
	})
	s.t.Cleanup(func() {
		p.Signal(15)
		_ = p.Wait() // master ends with the signal's status
	})
}
