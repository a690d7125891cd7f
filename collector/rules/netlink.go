package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is a netlink socket of nf_tables, for dumps.
type conn struct {
	fd  int
	buf []byte
	// slots are parts of buf into which the kernel writes several answers at once.
	slots [slots]mmsghdr
	iov   [slots]unix.Iovec
	seq   uint32
	out   []byte // requests that wait to be sent
}

// slots is how many answers are read in one go: of a short dump what it says and
// that it is done.
const slots = 3

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// answer is the largest that the kernel gives at once (NLMSG_GOODSIZE and what a
// reader of dumps may ask for).
const answer = 1 << 16

// open opens a socket in the caller's network namespace.
func open() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// It has an address only then, and the kernel tells nobody without one of changes.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// Many changes may come at once; without the right to it there is less room.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<20)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bound a netlink socket's waiting: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, slots*answer)}
	for i := range c.slots {
		c.iov[i].Base = &c.buf[i*answer]
		c.iov[i].SetLen(answer)
		c.slots[i].Iov = &c.iov[i]
		c.slots[i].SetIovlen(1)
	}
	return c, nil
}

// receive waits for an answer and takes those that are there with it.
func (c *conn) receive() (n int, err error) {
	const waitForOne = 0x10000 // MSG_WAITFORONE
	for {
		got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&c.slots[0])), slots, waitForOne|unix.MSG_TRUNC, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, errno
		default:
			return int(got), nil
		}
	}
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// Lengths of the headers: of netlink, and of netfilter's part behind it.
const (
	nlHeader = 16
	nfHeader = 4
)

// attribute is what a request asks for: a text, or if there is none bytes.
type attribute struct {
	kind uint16
	text string
	raw  []byte
}

// nest is an attribute that holds another.
func nest(kind uint16, inner attribute) attribute {
	return attribute{kind: kind | unix.NLA_F_NESTED, raw: inner.append(nil)}
}

func (a *attribute) append(b []byte) []byte {
	value := a.raw
	if value == nil {
		value = append([]byte(a.text), 0)
	}
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// ask adds a request.
func (c *conn) ask(f Family, message uint16, flags uint16, what ...attribute) {
	start := len(c.out)
	c.seq++
	b := append(c.out, make([]byte, nlHeader)...)
	b = append(b, byte(f), unix.NFNETLINK_V0, 0, 0)
	for _, a := range what {
		b = a.append(b)
	}
	h := b[start:]
	host := binary.NativeEndian
	host.PutUint32(h, uint32(len(h)))
	host.PutUint16(h[4:], unix.NFNL_SUBSYS_NFTABLES<<8|message)
	host.PutUint16(h[6:], unix.NLM_F_REQUEST|flags)
	host.PutUint32(h[8:], c.seq)
	c.out = b
}

// message are the attributes of one of an answer's.
type message struct{ attrs []byte }

// run sends what was asked and hands over the answer, of a dump all its parts.
func (c *conn) run(dump bool, do func(message) error) error {
	out := c.out
	c.out = c.out[:0]
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask nf_tables: %w", err)
	}
	var failed error
	for left := 1; left > 0; {
		answers, err := c.receive()
		if err != nil {
			return fmt.Errorf("read from nf_tables: %w", err)
		}
		for i := range answers {
			n := int(c.slots[i].n)
			if n > answer {
				return malformed("an answer of nf_tables is longer than any")
			}
			done, err := parse(c.buf[i*answer:][:n], c.seq, dump, do)
			if left -= done; err != nil && failed == nil {
				if failed = err; !errors.Is(err, ErrChanged) && !errors.Is(err, unix.ENOENT) {
					return failed
				}
			}
		}
	}
	return failed
}

// parse reads the messages of one answer to a request; done is 1 if it ends there.
func parse(b []byte, asked uint32, dump bool, do func(message) error) (done int, failed error) {
	host := binary.NativeEndian
	for len(b) > 0 {
		if len(b) < nlHeader {
			return done, malformed("a netlink message is cut off")
		}
		n := int(host.Uint32(b))
		kind, flags, seq := host.Uint16(b[4:]), host.Uint16(b[6:]), host.Uint32(b[8:])
		if n < nlHeader || n > len(b) {
			return done, malformed("a netlink message is longer than the answer")
		}
		body := b[nlHeader:n]
		b = b[min((n+3)&^3, len(b)):]
		if seq != asked {
			continue // of an earlier request that was given up
		}
		if flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil {
			failed = ErrChanged
		}
		switch {
		case kind == unix.NLMSG_DONE:
			done++
		case kind == unix.NLMSG_ERROR:
			done++
			if len(body) < 4 {
				return done, malformed("an error of netlink is cut off")
			}
			if code := -int32(host.Uint32(body)); code != 0 {
				failed = unix.Errno(code)
			}
		case len(body) < nfHeader:
			return done, malformed("a message of netfilter is cut off")
		default:
			if !dump {
				done++
			}
			if err := do(message{body[nfHeader:]}); err != nil {
				return done, err
			}
		}
	}
	return done, failed
}

// Generation is the number of the rules' present state: it grows with each
// change of any rule of nf_tables in the network namespace.
func Generation() (uint32, error) {
	c, err := open()
	if err != nil {
		return 0, err
	}
	defer c.close()
	return c.generation()
}

func (c *conn) generation() (id uint32, err error) {
	c.ask(0, unix.NFT_MSG_GETGEN, 0)
	err = c.run(false, func(m message) error {
		f, err := fieldsOf(m.attrs)
		if err == nil && len(f[unix.NFTA_GEN_ID]) < 4 {
			err = malformed("the generation has no number")
		}
		id = u32(f[unix.NFTA_GEN_ID])
		return err
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if err != nil {
		return 0, fmt.Errorf("ask nf_tables for its generation: %w", err)
	}
	return id, nil
}
