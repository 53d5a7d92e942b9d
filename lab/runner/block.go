package runner

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// blockTable is the lab's nftables table of a port that is blocked in a node.
func blockTable(port uint16) *nftables.Table {
	return &nftables.Table{Name: fmt.Sprintf("anycastle_lab_block_%d", port), Family: nftables.TableFamilyINet}
}

// Block has a node lose, without a sign, every TCP and UDP packet that comes to or from the port: whoever talks through it,
// such as a mesh, is cut off, and all else of the node goes on. It may be repeated. It ends with PowerOff too.
func (l *Lab) Block(node string, port uint16) error {
	return l.changeBlock(node, port, func(c *nftables.Conn, t *nftables.Table) {
		t = c.AddTable(t)
		chain := c.AddChain(&nftables.Chain{
			Name: arrival, Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
		})
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			for _, offset := range []uint32{0, 2} { // of the source port, and of the destination port
				c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
					&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
					&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
					&expr.Verdict{Kind: expr.VerdictDrop},
				}})
			}
		}
	})
}

// Unblock undoes Block, and may be repeated.
func (l *Lab) Unblock(node string, port uint16) error {
	return l.changeBlock(node, port, func(*nftables.Conn, *nftables.Table) {})
}

// changeBlock replaces the port's table by what add makes of it, in one transaction.
func (l *Lab) changeBlock(node string, port uint16, add func(*nftables.Conn, *nftables.Table)) error {
	n, err := l.openNetwork(node)
	if err != nil {
		return err
	}
	defer n.close()
	c, err := nftables.New(nftables.WithNetNSFd(int(n.ns)))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	c.AddTable(blockTable(port)) // so that there is one to delete
	c.DelTable(blockTable(port))
	add(c, blockTable(port))
	if err := c.Flush(); err != nil {
		return fmt.Errorf("block or unblock port %d of %s: %w", port, node, err)
	}
	return nil
}
