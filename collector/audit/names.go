package audit

import (
	"crypto/sha256"
	"encoding/base32"
	"slices"
	"strings"
)

// hash is how kube-proxy names chains: they hold no more than so many letters.
func hash(text string, letters int) string {
	sum := sha256.Sum256([]byte(text))
	return base32.StdEncoding.EncodeToString(sum[:])[:letters]
}

// portName is a Service port's name as kube-proxy writes it.
func portName(s *Service, p *Port) string {
	if p.Name == "" {
		return s.Name
	}
	return s.Name + ":" + p.Name
}

// chainsOf are the chains that kube-proxy may have for a port, by mode.
func chainsOf(mode string, s *Service, p *Port) []string {
	if mode == ModeIPTables {
		h := hash(portName(s, p)+protocolName(p.Protocol), 16)
		return []string{"KUBE-SVC-" + h, "KUBE-SVL-" + h, "KUBE-EXT-" + h, "KUBE-FW-" + h}
	}
	name := s.Name + "/" + protocolName(p.Protocol) + "/" + p.Name
	name = hash(name, 8) + "-" + name
	return []string{"service-" + name, "local-" + name, "external-" + name, "firewall-" + name}
}

// Owner is the Service, namespace/name, to which a chain or a list of clients of mode
// nftables belongs by its name (servicePortChainNameBase); ok is false if to none.
func Owner(name string) (service string, ok bool) {
	kind, rest, _ := strings.Cut(name, "-")
	if !slices.Contains([]string{"service", "local", "external", "firewall", "endpoint", "affinity"}, kind) {
		return "", false
	}
	_, rest, _ = strings.Cut(rest, "-") // behind the hash
	parts := strings.SplitN(rest, "/", 4)
	if len(parts) < 4 || parts[0] == "" || parts[1] == "" || !slices.Contains([]string{"tcp", "udp", "sctp"}, parts[2]) {
		return "", false
	}
	return parts[0] + "/" + parts[1], true
}
