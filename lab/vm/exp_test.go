package vm_test

import (
	"testing"
)

func TestExp(t *testing.T) {
	v := boot(t)
	out, err := v.Exec(t.Context(), "sh", "-c", `i=0; ipset create x hash:ip,port; time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do ipset list -n; done' ; time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do iptables-save -t nat >/dev/null; done' ; time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do stat /bin >/dev/null; done';  time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do LD_BIND_NOW= /usr/sbin/ipset --version >/dev/null; done'; time /opt/lab/kube kube-proxy --version`)
	t.Log(out, err)
	out, err = v.Exec(t.Context(), "sh", "-c", `(sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do ipset list -n >/dev/null; done'; ) 2>&1 ; (time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do ipset list -n >/dev/null; done'; time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do iptables-save -t nat >/dev/null; done';time sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do /bin/busybox stat /bin >/dev/null; done'; time /opt/lab/kube kube-proxy --version) 2>&1 | grep real`)
	t.Log(out, err)
}
