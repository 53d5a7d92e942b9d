package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// boxEnv holds the numbers of the system calls that are let through.
const boxEnv = "ANYCASTLE_TEST_SYSCALLS"

// boxed runs the rest of the command line with writable code banned and system calls filtered, as systemd's
// MemoryDenyWriteExecute and SystemCallFilter do.
func boxed() {
	err := confine()
	if err == nil {
		var path string
		if path, err = exec.LookPath(os.Args[1]); err == nil {
			err = syscall.Exec(path, os.Args[1:], os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "boxed:", err)
	os.Exit(125)
}

func confine() error {
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil {
		return fmt.Errorf("ban writable code: %w", err)
	}
	// struct seccomp_data: the number at 0, the architecture at 4
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AUDIT_ARCH_X86_64, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
	}
	for _, number := range strings.Fields(os.Getenv(boxEnv)) {
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return err
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(n), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("filter system calls: %w", errno)
	}
	return nil
}

// filterOf gives the numbers of the system calls that a unit lets through: what its SystemCallFilter settings say, and
// what systemd always does.
func filterOf(t *testing.T, unit string) string {
	t.Helper()
	allowed := expand(t, "@default")
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(unit, -1) {
		for _, group := range strings.Fields(m[2]) {
			for name := range expand(t, group) {
				if m[1] == "" {
					allowed[name] = true
				} else {
					delete(allowed, name)
				}
			}
		}
	}
	for name := range expand(t, "@default") {
		allowed[name] = true
	}
	headers, err := filepath.Glob("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
	if err != nil || len(headers) != 1 {
		t.Fatalf("no table of system calls: %v", err)
	}
	text, err := os.ReadFile(headers[0])
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, m := range regexp.MustCompile(`(?m)^#define __NR_(\w+) (\d+)`).FindAllStringSubmatch(string(text), -1) {
		if allowed[m[1]] {
			numbers = append(numbers, m[2])
		}
	}
	if len(numbers) < 200 {
		t.Fatalf("only %d system calls", len(numbers))
	}
	slices.Sort(numbers)
	return strings.Join(numbers, " ")
}

// expand gives the system calls of a group of systemd's.
func expand(t *testing.T, group string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for line := range strings.Lines(analyze(t, "syscall-filter", "--no-pager", group)) {
		name, ok := strings.CutPrefix(line, "    ")
		name = strings.TrimSpace(name)
		switch {
		case !ok || strings.HasPrefix(name, "#"):
		case strings.HasPrefix(name, "@"):
			for n := range expand(t, name) {
				all[n] = true
			}
		default:
			all[name] = true
		}
	}
	return all
}

// talkIMAP has a client store a mail through the front end, and read it.
func (h *bareHost) talkIMAP(t *testing.T) {
	t.Helper()
	var conn net.Conn
	h.ns.Do(func() (err error) {
		conn, err = net.Dial("tcp", "127.0.0.1:143")
		return err
	})
	defer conn.Close()
	h.do(conn.SetDeadline(time.Now().Add(startTime)))
	br := bufio.NewReader(conn)
	say := func(text, want string) (lines int) {
		t.Helper()
		_, err := conn.Write([]byte(text))
		h.do(err)
		for ; ; lines++ {
			line, err := br.ReadString('\n')
			if strings.HasPrefix(line, want) {
				return lines
			}
			if err != nil || strings.HasPrefix(line, "* BYE") {
				t.Fatalf("%.40q: %v after %d lines, the last %.80q; want %q", text, err, lines, line, want)
			}
		}
	}
	say("a STARTTLS\r\n", "a OK")
	conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	br = bufio.NewReader(conn)
	say("b LOGIN alice@example.org sesame\r\n", "b OK")
	const lines = 1 << 20
	large := strings.Repeat("x\r\n", lines) // more than is kept in memory on its way
	say(fmt.Sprintf("c APPEND INBOX {%d}\r\n", len(large)), "+")
	say(large+"\r\n", "c OK [APPENDUID")
	say("d SELECT INBOX\r\n", "* 1 EXISTS")
	if n := say("e FETCH 1 BODY[]\r\n", "e OK"); n < lines {
		t.Errorf("the mail comes back in %d lines of %d", n, lines)
	}
	say("f LOGOUT\r\n", "* BYE Logging out")
}
