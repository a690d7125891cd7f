// Command ipvsctl changes ip_vs behind kube-proxy's back, in the machine of
// package vm, which has no ipvsadm.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/moby/ipvs"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "ipvsctl: %v\n", err)
		os.Exit(1)
	}
}

// run does "delete-service VIP:PORT", "delete-server VIP:PORT SERVER:PORT" or
// "add-server VIP:PORT SERVER:PORT", over TCP.
func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: ipvsctl delete-service|delete-server|add-server VIP:PORT [SERVER:PORT]")
	}
	h, err := ipvs.New("")
	if err != nil {
		return err
	}
	defer h.Close()
	ip, port, err := address(args[1])
	if err != nil {
		return err
	}
	s, err := h.GetService(&ipvs.Service{Address: ip, Port: port, Protocol: syscall.IPPROTO_TCP, AddressFamily: syscall.AF_INET, SchedName: "rr"})
	if err != nil {
		return fmt.Errorf("find %s: %w", args[1], err)
	}
	if args[0] == "delete-service" {
		return h.DelService(s)
	}
	if len(args) < 3 {
		return fmt.Errorf("which server?")
	}
	rip, rport, err := address(args[2])
	if err != nil {
		return err
	}
	d := &ipvs.Destination{Address: rip, Port: rport, Weight: 1, AddressFamily: syscall.AF_INET}
	if args[0] == "add-server" {
		return h.NewDestination(s, d)
	}
	return h.DelDestination(s, d)
}

func address(text string) (net.IP, uint16, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return net.ParseIP(host).To4(), uint16(n), err
}
