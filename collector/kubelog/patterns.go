package kubelog

import "regexp"

// pattern is one thing that a line can say.
type pattern struct {
	// class is "cause/detail".
	class string
	expr  *regexp.Regexp
	// source is where kube-proxy, its libraries or the kernel say it.
	source string
	// example is a line of this kind; a test runs it.
	example string
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

// patterns are tried in order on the body of an error line; the more exact
// stands before the more general.
var patterns = []pattern{
	{"crash_loop/panic", re(`^panic: |Observed a panic|^fatal error: |^SIGSEGV|unexpected fault address`),
		"Go runtime; apimachinery util/runtime",
		`panic: runtime error: invalid memory address or nil pointer dereference`},
	{"crash_loop/wrong_arch", re(`exec format error`),
		"execve(2), ENOEXEC",
		`exec /usr/local/bin/kube-proxy: exec format error`},
	{"crash_loop/bad_flag", re(`unknown (shorthand )?flag: |flag provided but not defined|does not take any arguments|flag needs an argument|invalid argument .* for .*flag`),
		"spf13/pflag; cmd/kube-proxy/app/server.go",
		`Error: unknown flag: --no-such-flag`},
	{"crash_loop/config_parse", re(`failed complete: (failed to decode|failed lenient decoding|got unexpected config type|open [^ ]+: (no such file|permission denied|is a directory)|.*read [^ ]+: is a directory)|unexpected config type|couldn't (get version/kind|unmarshal)|no kind "[^"]*" is registered|strict decoding error`),
		"cmd/kube-proxy/app/options.go loadConfigFromFile",
		`E1123 08:13:43.486160      86 run.go:72] "command failed" err="failed complete: failed to decode: yaml: did not find expected key"`},
	{"resource_exhausted/inotify", re(`failed complete: too many open files|inotify_init|user limit on the total number of inotify instances`),
		"cmd/kube-proxy/app/options.go initWatcher",
		`E1123 08:13:43.486160      86 run.go:72] "command failed" err="failed complete: too many open files"`},
	{"crash_loop/config_invalid", re(`failed validate: |KubeProxyConfiguration\.[A-Za-z.\[\]0-9]+: (Invalid|Required|Forbidden|Unsupported)`),
		"pkg/proxy/apis/config/validation",
		`E1123 08:13:16.334300      86 run.go:72] "command failed" err="failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value: \"userspace\": must be iptables, ipvs, nftables or blank"`},
	{"crash_loop/sysctl_denied", re(`(nf_conntrack_max|nf_conntrack_tcp_timeout\w*|nf_conntrack/parameters/hashsize|proc/sys/[\w/.]+): (permission denied|read-only file system)|write.*conntrack.*(permission denied|read-only file system)`),
		"pkg/proxy/conntrack/sysctls.go",
		`E1123 08:15:12.000000      86 server.go:137] "Error running ProxyServer" err="could not set conntrack parameters from kube-proxy configuration: open /proc/sys/net/netfilter/nf_conntrack_max: permission denied"`},
	{"prerequisite_missing/nf_conntrack", re(`nf_conntrack[\w/]*: no such file or directory`),
		"pkg/proxy/conntrack/sysctls.go",
		`E1123 08:15:12.000000      86 server.go:137] "Error running ProxyServer" err="open /proc/sys/net/netfilter/nf_conntrack_max: no such file or directory"`},
	{"crash_loop/kubeconfig", re(`no configuration has been provided|no server found for cluster|error loading config file|unable to load in-cluster configuration|serviceaccount/token: no such file|kubeconfig[^ ]*: no such file|^"(Error running ProxyServer|command failed)" err="stat [^ ]+: no such file or directory"|invalid configuration: `),
		"cmd/kube-proxy/app/server.go createClient; client-go clientcmd",
		`E1123 08:12:48.815554      44 server.go:137] "Error running ProxyServer" err="stat /var/lib/kube-proxy/none.conf: no such file or directory"`},
	{"prerequisite_missing/ip_vs", re(`can't use the IPVS proxier|ipvs not supported|IPVS interface can't be initialized|Could not create dummy VS`),
		"cmd/kube-proxy/app/server_linux.go; pkg/proxy/ipvs/supported.go",
		`E1123 08:15:10.079184      86 server.go:137] "Error running ProxyServer" err="can't use the IPVS proxier: ipvs not supported"`},
	{"prerequisite_missing/nft", re(`could not find nftables binary|nft version must be|nftables mode requires kernel`),
		"sigs.k8s.io/knftables; pkg/proxy/nftables/supported.go",
		`E1123 08:18:53.814377       6 server.go:137] "Error running ProxyServer" err="unable to create proxier: unable to create ipv4 proxier: could not find nftables binary: exec: \"nft\": executable file not found in $PATH"`},
	{"prerequisite_missing/iptables", re(`iptables is not available on this host|can't initialize ip6?tables table|Module ip_tables not found|no support for primary IP family`),
		"cmd/kube-proxy/app/server_linux.go",
		`E1123 08:18:53.814377       6 server.go:137] "Error running ProxyServer" err="iptables is not available on this host : error listing chain \"POSTROUTING\" in table \"nat\": exit status 3"`},
	{"config_mismatch/ip_family", re(`kube-proxy configuration is incorrect: |has incorrect IP version`),
		"cmd/kube-proxy/app/server.go checkBadIPConfig",
		`E1123 08:18:53.814377       6 server.go:137] "Error running ProxyServer" err="kube-proxy configuration is incorrect: cluster is IPv4-primary but clusterCIDRs contains only IPv6 addresses"`},
	{"api_unreachable/cert_expired", re(`certificate has expired or is not yet valid`),
		"crypto/x509",
		`E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://10.0.0.1:6443/api/v1/nodes\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid"`},
	{"api_unreachable/tls", re(`x509: |tls: `),
		"crypto/x509, crypto/tls",
		`E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://10.0.0.1:6443/api/v1/nodes\": tls: failed to verify certificate: x509: certificate signed by unknown authority"`},
	{"api_unreachable/unauthorized", re(`Unauthorized|has asked for the client to provide credentials`),
		"client-go reflector",
		`E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Unauthorized" logger="UnhandledError"`},
	{"api_unreachable/forbidden", re(`is forbidden: User `),
		"client-go reflector",
		`E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: nodes is forbidden: User \"system:serviceaccount:kube-system:kube-proxy\" cannot list resource \"nodes\""`},
	{"api_unreachable/dns", re(`no such host|server misbehaving`),
		"net",
		`E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://api.example:6443/api/v1/nodes\": dial tcp: lookup api.example: no such host"`},
	{"api_unreachable/refused", re(`(Get|list|watch).*connection refused`),
		"net",
		`E0101 08:18:53.814377       6 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.Service: failed to list *v1.Service: Get "https://10.0.0.1:6443/api/v1/services": dial tcp 10.0.0.1:6443: connect: connection refused`},
	{"api_unreachable/timeout", re(`(Get|list|watch).*(i/o timeout|TLS handshake timeout|context deadline exceeded|no route to host|network is unreachable)`),
		"net",
		`E0101 08:18:53.814377       6 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.Service: failed to list *v1.Service: Get "https://10.0.0.1:6443/api/v1/services": dial tcp 10.0.0.1:6443: i/o timeout`},
}

// noise are error lines of a healthy kube-proxy: they decide nothing.
var noise = []pattern{
	{"", re(`nodePortAddresses is unset`), "cmd/kube-proxy/app/server.go, on every default start",
		`E1123 08:15:02.981805      86 server.go:256] "Kube-proxy configuration may be incomplete or incorrect" err="nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. Consider using --nodeport-addresses primary"`},
	{"", re(`ipvs proxier has been deprecated`), "cmd/kube-proxy/app/server_linux.go, on every ipvs start since 1.37",
		`E1123 08:15:02.981805      86 server_linux.go:193] "The ipvs proxier has been deprecated"`},
	{"", re(`Failed to list existing sets`), "pkg/proxy/nftables/proxier.go, on the first nftables sync",
		`E1123 08:15:03.096090      86 proxier.go:1285] "Failed to list existing sets" err="receiveAckAware: netlink receive: no such file or directory" ipFamily="IPv4"`},
	{"", re(`Error cleaning up nftables rules|Error removing (userspace rule|pure-iptables proxy rule|ipvs)|encountered an error while tearing down rules`), "clean-up of other modes' rules",
		`E1123 08:15:02.981805      86 cleanup.go:48] "Error cleaning up nftables rules" err="could not find nftables binary: exec: \"nft\": executable file not found in $PATH"`},
	{"", re(`Using lenient decoding`), "cmd/kube-proxy/app/options.go",
		`E1123 08:15:02.981805      86 options.go:502] "Using lenient decoding as strict decoding failed" err="strict decoding error: unknown field \"x\""`},
	{"", re(`Can't set sysctl, kernel version`), "pkg/proxy/ipvs/proxier.go, old kernels",
		`E1123 08:15:02.981805      86 proxier.go:269] "Can't set sysctl, kernel version doesn't satisfy minimum version requirements"`},
	{"", re(`Could not get ipvs family information from the kernel|Running modprobe ip_vs failed`), "moby/ipvs, beside the line that decides",
		`time="2026-11-23T08:15:10Z" level=error msg="Could not get ipvs family information from the kernel. It is possible that ipvs is not enabled in your kernel."`},
	{"", re(`Failed to create nfacct|conntrack entries|received a partial result`), "metrics and conntrack clean-up, retried",
		`E1123 08:15:02.981805      86 cleanup.go:54] "Failed to list conntrack entries" err="received a partial result"`},
}
