package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"k8s.io/client-go/tools/clientcmd"
)

// PKI is the lab's certificate authority and service account key, on disk.
type PKI struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// pair is a certificate and its key, PEM.
type pair struct{ cert, key []byte }

// newPKI makes a certificate authority and the service account key in dir.
func newPKI(dir string) (*PKI, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, err := issue(nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "kproxy-lab"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	if err != nil {
		return nil, err
	}
	sa, err := newKey()
	if err != nil {
		return nil, err
	}
	for name, b := range map[string][]byte{"ca.crt": ca.cert, "ca.key": ca.key, "sa.key": sa} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	return openPKI(dir)
}

// openPKI reads what newPKI made.
func openPKI(dir string) (*PKI, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	c, _ := pem.Decode(certPEM)
	k, _ := pem.Decode(keyPEM)
	if c == nil || k == nil {
		return nil, fmt.Errorf("%s holds no certificate authority", dir)
	}
	p := &PKI{dir: dir}
	if p.cert, err = x509.ParseCertificate(c.Bytes); err != nil {
		return nil, err
	}
	if p.key, err = x509.ParseECPrivateKey(k.Bytes); err != nil {
		return nil, err
	}
	return p, nil
}

func newKey() ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	b, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b}), nil
}

// issue signs a template with the authority, or with its own key if there is none.
func issue(ca *PKI, t *x509.Certificate) (pair, error) {
	keyPEM, err := newKey()
	if err != nil {
		return pair{}, err
	}
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return pair{}, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return pair{}, err
	}
	if t.NotAfter.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
		t.NotAfter = time.Now().Add(365 * 24 * time.Hour)
	}
	parent, signer := t, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return pair{}, err
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM}, nil
}

// client issues a client certificate for a user and its groups.
func (p *PKI) client(user string, groups ...string) (pair, error) {
	return issue(p, &x509.Certificate{
		Subject:  pkix.Name{CommonName: user, Organization: groups},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// server issues a serving certificate for addresses and names.
func (p *PKI) server(name string, ips []net.IP, dns ...string) (pair, error) {
	return issue(p, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: ips, DNSNames: dns,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// expired issues a serving certificate that ended yesterday.
func (p *PKI) expired(name string, ip net.IP) (pair, error) {
	return issue(p, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{ip},
		NotBefore: time.Now().AddDate(-1, 0, -1), NotAfter: time.Now().AddDate(0, 0, -1),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// ca returns the authority's certificate, PEM.
func (p *PKI) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

// kubeconfig renders a kubeconfig for a user of the API at server.
func (p *PKI) kubeconfig(server, user string, auth clientcmdapi.AuthInfo) ([]byte, error) {
	return clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"lab": {Server: server, CertificateAuthorityData: p.ca()}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: &auth},
		Contexts:       map[string]*clientcmdapi.Context{"lab": {Cluster: "lab", AuthInfo: user}},
		CurrentContext: "lab",
	})
}

// clientKubeconfig renders a kubeconfig with a fresh client certificate.
func (p *PKI) clientKubeconfig(server, user string, groups ...string) ([]byte, error) {
	c, err := p.client(user, groups...)
	if err != nil {
		return nil, err
	}
	return p.kubeconfig(server, user, clientcmdapi.AuthInfo{ClientCertificateData: c.cert, ClientKeyData: c.key})
}
