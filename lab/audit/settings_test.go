package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kproxy-exporter/kproxy-exporter/lab/cluster"
)

// settings are kube-proxy's own that change which rules are right.
type settings struct {
	masqueradeAll     bool
	nodePortAddresses []string // its default if there is none
	clusterCIDRs      []netip.Prefix
}

// stock is how the lab's kube-proxy runs.
var stock = settings{clusterCIDRs: []netip.Prefix{netip.MustParsePrefix(cluster.PodCIDR)}}

// Settings are random ones.
func (r *Random) settings() settings {
	addresses := [][]string{nil, nil, {"10.99.0.0/24"}, {"127.0.0.0/8"}, {"203.0.113.0/24", "fd00:99::/64"}, {"0.0.0.0/0", "::/0"}}
	cidrs := [][]netip.Prefix{stock.clusterCIDRs, {netip.MustParsePrefix(cluster.PodCIDR), netip.MustParsePrefix("fd00:10:244::/56")}, nil}
	return settings{r.IntN(3) == 0, addresses[r.IntN(len(addresses))], cidrs[r.IntN(len(cidrs))]}
}

// cidrs are those of pods as kube-proxy's configuration has them.
func (s *settings) cidrs() string {
	var out []string
	for _, p := range s.clusterCIDRs {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}

// reconfigure starts kube-proxy anew with other settings, and waits until it runs with them.
func (l *look) reconfigure(ctx context.Context, r *Random) error {
	s := r.settings()
	objects, _, err := l.cluster.KubeProxyObjects()
	if err != nil {
		return err
	}
	const file = "config.conf"
	var out []string
	for line := range strings.Lines(objects.Data[file]) {
		if strings.HasPrefix(line, "clusterCIDR:") {
			line = fmt.Sprintf("clusterCIDR: %q\n", s.cidrs())
		}
		out = append(out, line)
	}
	addresses, err := json.Marshal(s.nodePortAddresses)
	if err != nil {
		return err
	}
	out = append(out, fmt.Sprintf("nodePortAddresses: %s\n%s: {masqueradeAll: %t}\n", addresses, l.mode, s.masqueradeAll))
	maps := l.client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	is, err := maps.Get(ctx, "kube-proxy", metav1.GetOptions{})
	if err != nil {
		return err
	}
	is.Data[file] = strings.Join(out, "")
	if _, err := maps.Update(ctx, is, metav1.UpdateOptions{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		// A kubelet that is busy mounts what it last heard of: then once more.
		if err := l.client.CoreV1().Pods(metav1.NamespaceSystem).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "k8s-app=kube-proxy"}); err != nil {
			return err
		}
		for asked := time.Now(); time.Since(asked) < 20*time.Second; {
			if err := l.runsWith(&s); err == nil {
				l.runs = s
				return nil
			} else if ctx.Err() != nil {
				return fmt.Errorf("kube-proxy does not run with %+v: %w", s, errors.Join(ctx.Err(), err))
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// runsWith is nil if the node's kube-proxy says that it runs with these settings.
func (l *look) runsWith(s *settings) error {
	type masquerade struct{ MasqueradeAll bool }
	var says struct {
		Config struct {
			ClusterCIDR        string
			NodePortAddresses  []string
			IPTables, NFTables masquerade
		} `json:"kubeproxy.config.k8s.io"`
	}
	err := l.ns.Do(func() error {
		c, err := net.DialTimeout("tcp", "127.0.0.1:10249", time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, "GET /configz HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		_, body, _ := strings.Cut(string(b), "\r\n\r\n")
		return json.Unmarshal([]byte(body), &says)
	})
	if err != nil {
		return err
	}
	all := says.Config.IPTables.MasqueradeAll
	if l.mode == "nftables" {
		all = says.Config.NFTables.MasqueradeAll
	}
	if says.Config.ClusterCIDR != s.cidrs() || all != s.masqueradeAll || len(s.nodePortAddresses) > 0 && !slices.Equal(says.Config.NodePortAddresses, s.nodePortAddresses) {
		return fmt.Errorf("it runs with %+v", says.Config)
	}
	return nil
}
