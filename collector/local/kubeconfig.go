package local

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// The service account of a pod, as every container of it sees it.
const (
	tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	caFile    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

// errNoKubeconfig is for a kube-proxy that names none.
var errNoKubeconfig = errors.New("its command line and configuration name no kubeconfig")

// ReadFile reads a file by its absolute path; of a process, as it sees it.
type ReadFile func(name string) ([]byte, error)

// Kubeconfig is the one that a kube-proxy read when it started. A file that
// changed since is an error: it is not what the process runs with.
func Kubeconfig(p *Process) ([]byte, error) {
	path := p.Flag("kubeconfig")
	if config := p.Flag("config"); config != "" {
		text, err := p.readUnchanged(config)
		if err != nil {
			return nil, fmt.Errorf("kube-proxy's configuration: %w", err)
		}
		var c v1alpha1.KubeProxyConfiguration
		if err := yaml.Unmarshal(text, &c); err != nil {
			return nil, fmt.Errorf("kube-proxy's configuration %s: %w", config, err)
		}
		path = c.ClientConnection.Kubeconfig
	}
	if path == "" {
		return nil, errNoKubeconfig
	}
	text, err := p.readUnchanged(path)
	if err != nil {
		return nil, fmt.Errorf("kube-proxy's kubeconfig: %w", err)
	}
	return text, nil
}

// timeGrain is how far the times of files and of processes may be apart: the
// latter come in ticks, counted from a boot time in whole seconds.
const timeGrain = 2 * time.Second

func (p *Process) readUnchanged(name string) ([]byte, error) {
	changed, err := p.ModTime(name)
	if err != nil {
		return nil, err
	}
	if changed.After(p.Started.Add(timeGrain)) {
		return nil, fmt.Errorf("%s was changed after kube-proxy had read it: what it runs with is not known", name)
	}
	return p.ReadFile(name)
}

// APITargetOf is the API server as kube-proxy asks it: the address in its
// kubeconfig, and its credentials, which are read anew each time, as a token is
// renewed every hour.
func APITargetOf(p *Process, kubeconfig []byte, nodeName string) (prober.APITarget, error) {
	t, err := apiTarget(kubeconfig, p.Flag("master"), p.ReadFile)
	if err != nil {
		return prober.APITarget{}, fmt.Errorf("kube-proxy's kubeconfig: %w", err)
	}
	// What kube-proxy itself must be allowed, from the API server's cache.
	t.Path += "/api/v1/nodes/" + url.PathEscape(nodeName) + "?resourceVersion=0"
	return t, nil
}

// errOtherWay is for what client-go can and this does not: it would be asked
// otherwise than kube-proxy asks.
var errOtherWay = errors.New("it has a way to the API server that is not followed here")

// apiTarget reads a kubeconfig; master, if there is one, is the server instead.
func apiTarget(text []byte, master string, read ReadFile) (prober.APITarget, error) {
	var t prober.APITarget
	cfg, err := clientcmd.Load(text)
	if err != nil {
		return t, err
	}
	context := cfg.Contexts[cfg.CurrentContext]
	if context == nil {
		return t, fmt.Errorf("it has no context %q", cfg.CurrentContext)
	}
	cluster, user := cfg.Clusters[context.Cluster], cfg.AuthInfos[context.AuthInfo]
	if cluster == nil || user == nil {
		return t, fmt.Errorf("context %q names a cluster or user that is not there", cfg.CurrentContext)
	}
	switch {
	case cluster.InsecureSkipTLSVerify, cluster.ProxyURL != "":
		return t, fmt.Errorf("%w: insecure-skip-tls-verify or proxy-url", errOtherWay)
	case user.Exec != nil, user.AuthProvider != nil, user.Username != "", user.Impersonate != "":
		return t, fmt.Errorf("%w: exec, auth-provider, username or as", errOtherWay)
	case len(cluster.CertificateAuthorityData) == 0 && cluster.CertificateAuthority == "":
		return t, fmt.Errorf("%w: no certificate authority, so the system's, which is another here", errOtherWay)
	}
	if t.Host, t.Port, t.Path, err = hostPort(cmp.Or(master, cluster.Server)); err != nil {
		return t, err
	}
	t.ServerName = cluster.TLSServerName
	ca := cluster.CertificateAuthorityData
	if len(ca) == 0 && cluster.CertificateAuthority != "" {
		if ca, err = read(cluster.CertificateAuthority); err != nil {
			return t, err
		}
	}
	if len(ca) > 0 {
		t.Roots = x509.NewCertPool()
		if !t.Roots.AppendCertsFromPEM(ca) {
			return t, errors.New("its certificate authority holds no certificate")
		}
	}
	return t, credentials(&t, user, read)
}

func credentials(t *prober.APITarget, user *clientcmdapi.AuthInfo, read ReadFile) (err error) {
	t.Token = user.Token
	if user.TokenFile != "" {
		b, err := read(user.TokenFile)
		if err != nil {
			return err
		}
		t.Token = strings.TrimSpace(string(b))
	}
	cert, key := user.ClientCertificateData, user.ClientKeyData
	if len(cert) == 0 && user.ClientCertificate != "" {
		if cert, err = read(user.ClientCertificate); err != nil {
			return err
		}
	}
	if len(key) == 0 && user.ClientKey != "" {
		if key, err = read(user.ClientKey); err != nil {
			return err
		}
	}
	if len(cert) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return err
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// hostPort splits a server's URL; path is before that of each request.
func hostPort(server string) (host, port, path string, err error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", "", "", errors.New("its server is no URL") // the error would quote it, with what is in it
	}
	if u.Scheme != "https" || u.Hostname() == "" {
		return "", "", "", fmt.Errorf("server %q is no https URL", u.Redacted())
	}
	if port = u.Port(); port == "" {
		port = "443"
	}
	return u.Hostname(), port, strings.TrimSuffix(u.Path, "/"), nil
}

// Address is host:port of a target, for people and labels.
func Address(t prober.APITarget) string { return net.JoinHostPort(t.Host, t.Port) }
