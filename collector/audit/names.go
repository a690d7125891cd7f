package audit

import (
	"crypto/sha256"
	"encoding/base32"
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
