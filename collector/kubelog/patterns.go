package kubelog

import "regexp"

// pattern is one thing that an entry can say.
type pattern struct {
	// class is "cause/detail"; empty for noise.
	class string
	expr  *regexp.Regexp
	// source is where kube-proxy, its libraries or the kernel say it.
	source string
	// example is an entry of this kind; a test runs it.
	example string
	// warns says that old versions only warned of it.
	warns bool
	// weak says that it decides only if nothing else does.
	weak bool
	// unless takes noise back.
	unless *regexp.Regexp
}

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

// reflector begins what a watch says that cannot be kept: the wording changed
// in 1.19, 1.31 and 1.34.
const reflector = `(?s)(?:(?:[Ff]ailed to (?:list|watch|retrieve node info|get)|[Cc]an't get Node|Failed to retrieve node info|Unable to retrieve|[Cc]ouldn't get|Error getting node|error retrieving).*)`

// patterns are tried in order on an entry; the more exact stands before the
// more general.
var patterns = []pattern{
	{class: "crash_loop/panic", expr: re(`^panic: |Observed a panic|^fatal error: |^SIGSEGV|unexpected fault address`),
		source:  "Go runtime; apimachinery util/runtime",
		example: `panic: runtime error: invalid memory address or nil pointer dereference`},
	{class: "crash_loop/wrong_arch", expr: re(`^exec (/\S+|user process).*exec format error|standard_init_linux.*exec format error|^exec format error`),
		source:  "execve(2), ENOEXEC",
		example: `exec /usr/local/bin/kube-proxy: exec format error`},
	{class: "crash_loop/bad_flag", expr: re(`unknown (shorthand )?flag: |flag provided but not defined|does not take any arguments|flag needs an argument|invalid argument .* for .*(flag|--\S+)`),
		source:  "spf13/pflag; cmd/kube-proxy/app/server.go",
		example: `Error: unknown flag: --no-such-flag`},
	{class: "crash_loop/config_parse", expr: re(`failed complete: (failed to decode|failed lenient decoding|got unexpected config type|open [^ ]+: (no such file|permission denied|is a directory)|.*read [^ ]+: is a directory)|unexpected config type|couldn't (get version/kind|unmarshal)|no kind "[^"]*" is registered|strict decoding error|KubeProxyConfiguration[.:].*(ReadMapCB|ReadString|expect |unmarshal|[Dd]ecode)`),
		source:  "cmd/kube-proxy/app/options.go loadConfigFromFile",
		example: `E1123 08:13:43.486160      86 run.go:72] "command failed" err="failed complete: failed to decode: yaml: did not find expected key"`},
	{class: "resource_exhausted/inotify", expr: re(`failed complete: too many open files|inotify_init|user limit on the total number of inotify instances|inotify.*(no space left|too many open files)`),
		source:  "cmd/kube-proxy/app/options.go initWatcher",
		example: `E1123 08:13:43.486160      86 run.go:72] "command failed" err="failed complete: too many open files"`},
	{class: "resource_exhausted/file_descriptors", expr: re(`(accept|socket|open|pipe2?|dial)\b.*too many open files`),
		source:  "EMFILE, any call that opens",
		example: `E0410 23:43:01.350853    4891 proxier.go:104] Accept failed: accept tcp [::]:60995: too many open files`},
	{class: "crash_loop/config_invalid", expr: re(`failed validate: |KubeProxyConfiguration\.[A-Za-z.\[\]0-9]+: (Invalid|Required|Forbidden|Unsupported)`),
		source:  "pkg/proxy/apis/config/validation",
		example: `E1123 08:13:16.334300      86 run.go:72] "command failed" err="failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value: \"userspace\": must be iptables, ipvs, nftables or blank"`},
	{class: "crash_loop/sysctl_denied", expr: re(`(nf_conntrack_max|nf_conntrack_tcp_timeout\w*|nf_conntrack/parameters/hashsize|proc/sys/net/[\w/.]+): (permission denied|read-only file system)|write.*conntrack.*(permission denied|read-only file system)`),
		source:  "pkg/proxy/conntrack/sysctls.go",
		example: `E1123 08:15:12.000000      86 server.go:137] "Error running ProxyServer" err="could not set conntrack parameters from kube-proxy configuration: open /proc/sys/net/netfilter/nf_conntrack_max: permission denied"`},
	{class: "prerequisite_missing/nf_conntrack", expr: re(`nf_conntrack[\w/]*: no such file or directory`),
		source:  "pkg/proxy/conntrack/sysctls.go",
		example: `E1123 08:15:12.000000      86 server.go:137] "Error running ProxyServer" err="open /proc/sys/net/netfilter/nf_conntrack_max: no such file or directory"`},
	{class: "crash_loop/kubeconfig", expr: re(`no configuration has been provided|no server found for cluster|error loading config file|unable to load in-cluster configuration|serviceaccount/token: no such file|kubeconfig[^ ]*: (no such file|permission denied)|^"(Error running ProxyServer|command failed)" err="stat [^ ]+: no such file or directory"|^Error: stat \S+: no such file|invalid configuration: `),
		source:  "cmd/kube-proxy/app/server.go createClient; client-go clientcmd",
		example: `E1123 08:12:48.815554      44 server.go:137] "Error running ProxyServer" err="stat /var/lib/kube-proxy/none.conf: no such file or directory"`},
	{class: "port_conflict/metrics", expr: re(`(starting metrics server failed|:10249: bind).*address already in use`),
		source:  "cmd/kube-proxy/app/server.go serveMetrics",
		example: `E1123 08:15:28.561742     128 server.go:500] "starting metrics server failed" err="listen tcp 127.0.0.1:10249: bind: address already in use" logger="UnhandledError"`},
	{class: "port_conflict/healthz", expr: re(`([Hh]ealthz|:10256).*address already in use`),
		source:  "pkg/proxy/healthcheck/proxy_health.go",
		example: `E1123 08:15:28.561742     128 server.go:446] "Healthz server failed" err="failed to start proxy healthz on 0.0.0.0:10256: listen tcp 0.0.0.0:10256: bind: address already in use"`},
	{class: "config_mismatch/mode", expr: re(`IPVS proxier will not be used because`),
		source:  "pkg/proxy/ipvs, to 1.26: it falls back to iptables",
		example: `E0514 13:06:16.139837       1 server_others.go:304] can't determine whether to use ipvs proxy, error: IPVS proxier will not be used because the following required kernel modules are not loaded: [ip_vs_sh ip_vs]`},
	{class: "prerequisite_missing/ip_vs", expr: re(`can't use the IPVS proxier|ipvs not supported|IPVS interface can't be initialized|Could not create dummy VS`),
		source:  "cmd/kube-proxy/app/server_linux.go; pkg/proxy/ipvs/supported.go",
		example: `E1123 08:15:10.079184      86 server.go:137] "Error running ProxyServer" err="can't use the IPVS proxier: ipvs not supported"`},
	{class: "prerequisite_missing/binary", expr: re(`JSON support not compiled-in|(iptables|ip6tables|ipset|conntrack|iptables-save|iptables-restore)\\?": executable file not found|executable file not found in \$PATH: \S*(iptables|ipset)|list.*POSTROUTING.*executable file not found|failed to run nft: signal|nftables sync failed.*signal: `),
		source:  "os/exec; a broken image",
		example: `E0710 14:44:53.863126       1 proxier.go:994] "Failed to list nftables elements" err="failed to run nft: JSON support not compiled-in" ipFamily="IPv4"`},
	{class: "prerequisite_missing/nft", expr: re(`could not find nftables binary|nft version must be|nftables mode requires kernel|nft.*Could not process rule: (No such file|Operation not supported)`),
		source:  "sigs.k8s.io/knftables; pkg/proxy/nftables/supported.go",
		example: `E1123 08:18:53.814377       6 server.go:137] "Error running ProxyServer" err="unable to create proxier: unable to create ipv4 proxier: could not find nftables binary: exec: \"nft\": executable file not found in $PATH"`},
	{class: "prerequisite_missing/kernel_bug", expr: re(`unknown option \\?"--xor-mark|Extension MARK revision 0 not supported`),
		source:  "ip6tables on kernels whose MARK target lacks IPv6",
		example: `E1123 08:18:54.293789       6 proxier.go:1390] "Failed to execute iptables-restore" err="exit status 2: ip6tables-restore v1.8.9 (legacy): unknown option \"--xor-mark\""`},
	{class: "prerequisite_missing/xt_match", expr: re("Couldn't (load|find) match [`'\"]?\\w+|unknown option \\\\?\"--random-fully"),
		source:  "xtables: a match that the kernel or the image lacks",
		example: "E0520 04:37:03.529606       1 proxier.go:841] Failed to ensure that filter chain INPUT jumps to KUBE-EXTERNAL-SERVICES: error checking rule: exit status 2: iptables v1.8.3 (legacy): Couldn't load match `comment':No such file or directory"},
	{class: "security_policy/not_privileged", expr: re(`Permission denied \(you must be root\)|(iptables|nft|netlink).*(operation not permitted|Operation not permitted)`),
		source:  "iptables, nft: EPERM",
		example: "F1111 04:23:47.129911       1 server.go:101] Unable to create proxer: failed to initialize iptables: error creating chain \"KUBE-PORTALS-CONTAINER\": exit status 3: iptables v1.4.21: can't initialize iptables table `nat': Permission denied (you must be root)"},
	{class: "prerequisite_missing/iptables", expr: re(`iptables is not available on this host|can't initialize ip6?tables table|Module ip_tables not found|no support for primary IP family|could not insert '?ip6?_tables|Table does not exist`),
		source:  "cmd/kube-proxy/app/server_linux.go",
		example: `E1123 08:18:53.814377       6 server.go:137] "Error running ProxyServer" err="iptables is not available on this host : error listing chain \"POSTROUTING\" in table \"nat\": exit status 3"`},
	{class: "config_mismatch/ip_family", expr: re(`kube-proxy configuration is incorrect: |cluster is IPv[46]-primary but|has incorrect IP version`),
		source:  "cmd/kube-proxy/app/server.go checkBadIPConfig",
		example: `E1123 08:18:53.814377       6 server.go:137] "Error running ProxyServer" err="kube-proxy configuration is incorrect: cluster is IPv4-primary but clusterCIDRs contains only IPv6 addresses"`},
	{class: "config_mismatch/hostname", warns: true, expr: re(`Timed out waiting for node .*to exist|nodes "[^"]*" not found|nodes \\"[^"]*\\" not found|unable to get node IP for hostname`),
		source:  "pkg/proxy/node.go; to 1.28 pkg/util/node",
		example: `W0628 09:27:17.564700       1 server.go:605] Failed to retrieve node info: nodes "worker-0" not found`},
	{class: "config_mismatch/node_ip", warns: true, expr: re(`Timed out waiting for node .*to be assigned IPs|failed to select a host interface|Unable to select an IP`),
		source:  "pkg/proxy/node.go; to 1.5 util/net",
		example: `F1104 05:04:24.174215   24007 server.go:101] Unable to create proxer: failed to select a host interface: Unable to select an IP.`},
	{class: "config_mismatch/node_ip", warns: true, weak: true, expr: re(`Can't determine this node's IP, assuming|invalid nodeIP, initializing kube-proxy with 127\.0\.0\.1`),
		source:  "cmd/kube-proxy/app/server.go; it follows from what else is wrong",
		example: `W0306 21:38:42.516955       1 proxier.go:471] invalid nodeIP, initializing kube-proxy with 127.0.0.1 as nodeIP`},
	{class: "version_skew/too_old", warns: true, expr: re(`v1(alpha|beta)\d\.\w+: the server could not find the requested resource`),
		source:  "client-go reflector: an API that this server no longer has",
		example: `E0101 08:18:53.814377       6 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1beta1.EndpointSlice: failed to list *v1beta1.EndpointSlice: the server could not find the requested resource`},
	{class: "version_skew/too_new", warns: true, expr: re(`\*?v1\.\w+: the server could not find the requested resource`),
		source:  "client-go reflector: an API that this server does not have yet",
		example: `E0101 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.ServiceCIDR: the server could not find the requested resource"`},
	{class: "api_unreachable/cert_expired", warns: true, expr: re(`certificate has expired or is not yet valid`),
		source:  "crypto/x509",
		example: `E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://10.0.0.1:6443/api/v1/nodes\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid"`},
	{class: "api_unreachable/tls", warns: true, expr: re(`x509: |tls: |server gave HTTP response to HTTPS client`),
		source:  "crypto/x509, crypto/tls",
		example: `E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://10.0.0.1:6443/api/v1/nodes\": tls: failed to verify certificate: x509: certificate signed by unknown authority"`},
	{class: "api_unreachable/unauthorized", warns: true, expr: re(`: Unauthorized|err="Unauthorized|has asked for the client to provide credentials`),
		source:  "client-go",
		example: `E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Unauthorized" logger="UnhandledError"`},
	{class: "api_unreachable/forbidden", warns: true, expr: re(`is forbidden: User `),
		source:  "client-go",
		example: `E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: nodes is forbidden: User \"system:serviceaccount:kube-system:kube-proxy\" cannot list resource \"nodes\""`},
	{class: "api_unreachable/dns", warns: true, expr: re(`no such host|server misbehaving|dial tcp: lookup `),
		source:  "net",
		example: `E1123 08:18:53.814377       6 reflector.go:227] "Failed to watch" err="failed to list *v1.Node: Get \"https://api.example:6443/api/v1/nodes\": dial tcp: lookup api.example: no such host"`},
	{class: "api_unreachable/wrong_endpoint", warns: true, expr: re(reflector + `dial tcp (127\.0\.0\.1|\[::1\]):(?:6443|443|8443): .*connection refused`),
		source:  "net: a kubeconfig of a control-plane node on another",
		example: `E0101 08:18:53.814377       6 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.Service: failed to list *v1.Service: Get "https://127.0.0.1:6443/api/v1/services": dial tcp 127.0.0.1:6443: connect: connection refused`},
	{class: "api_unreachable/refused", warns: true, expr: re(reflector + `connection refused`),
		source:  "net",
		example: `E0101 08:18:53.814377       6 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.Service: failed to list *v1.Service: Get "https://10.0.0.1:6443/api/v1/services": dial tcp 10.0.0.1:6443: connect: connection refused`},
	{class: "api_unreachable/timeout", warns: true, expr: re(reflector + `(i/o timeout|TLS handshake timeout|context deadline exceeded|no route to host|network is unreachable|Client\.Timeout exceeded)`),
		source:  "net",
		example: `E0101 08:18:53.814377       6 reflector.go:138] k8s.io/client-go/informers/factory.go:134: Failed to watch *v1.Service: failed to list *v1.Service: Get "https://10.0.0.1:6443/api/v1/services": dial tcp 10.0.0.1:6443: i/o timeout`},
	{class: "rules_stale/flushed", weak: true, warns: true, expr: re(`(?i)iptables canary \S*deleted`),
		source:  "pkg/util/iptables Monitor",
		example: `W0101 08:18:53.814377       6 iptables.go:442] "IPTables canary deleted" table="mangle" chain="KUBE-PROXY-CANARY"`},
	{class: "rules_stale/sync_failing", expr: re(`Failed to execute iptables-restore|Failed to initialize iptables|Failed to ensure (that )?.*chain|holding the xtables lock|xtables\.lock: is a directory|nftables sync failed|Failed to list nftables elements|Failed to make sure existence of ip set|error creating ipset|error adding entry|Failed to add IPVS service|Failed to bind service address|Policy creation failed|Unable to find HNS|could not find HNS|hnsCall failed`),
		source:  "pkg/proxy/{iptables,ipvs,nftables,winkernel}/proxier.go",
		example: "E0614 19:28:28.863518     947 proxier.go:1206] Failed to execute iptables-restore: exit status 2 (iptables-restore v1.4.21: Couldn't load target `KUBE-MARK-DROP':No such file or directory"},
}

// noise are errors of a healthy kube-proxy: they decide nothing.
var noise = []pattern{
	{expr: re(`nodePortAddresses is unset`), source: "cmd/kube-proxy/app/server.go, on every default start",
		example: `E1123 08:15:02.981805      86 server.go:256] "Kube-proxy configuration may be incomplete or incorrect" err="nodePortAddresses is unset; NodePort connections will be accepted on all local IPs. Consider using --nodeport-addresses primary"`},
	{expr: re(`No kube-proxy mode specified|Unknown proxy mode ""`), source: "cmd/kube-proxy/app/server_linux.go, on every default start",
		example: `E1123 08:15:02.981805      86 server_linux.go:141] "No kube-proxy mode specified: defaulting to 'iptables'."`},
	{expr: re(`ipvs proxier has been deprecated`), source: "cmd/kube-proxy/app/server_linux.go, on every ipvs start since 1.37",
		example: `E1123 08:15:02.981805      86 server_linux.go:193] "The ipvs proxier has been deprecated"`},
	{expr: re(`Failed to list existing sets`), source: "pkg/proxy/nftables/proxier.go, on the first nftables sync",
		example: `E1123 08:15:03.096090      86 proxier.go:1285] "Failed to list existing sets" err="receiveAckAware: netlink receive: no such file or directory" ipFamily="IPv4"`},
	{expr: re(`Error cleaning up nftables rules|Error removing (userspace rule|pure-iptables proxy rule|ipvs)|encountered an error while tearing down rules`), unless: re(`Table does not exist|could not insert 'ip_tables`),
		source:  "clean-up of other modes' rules",
		example: `E1123 08:15:02.981805      86 cleanup.go:48] "Error cleaning up nftables rules" err="could not find nftables binary: exec: \"nft\": executable file not found in $PATH"`},
	{expr: re(`Using lenient decoding`), source: "cmd/kube-proxy/app/options.go",
		example: `E1123 08:15:02.981805      86 options.go:502] "Using lenient decoding as strict decoding failed" err="strict decoding error: unknown field \"x\""`},
	{expr: re(`Can't set sysctl, kernel version`), source: "pkg/proxy/ipvs/proxier.go, old kernels",
		example: `E1123 08:15:02.981805      86 proxier.go:269] "Can't set sysctl, kernel version doesn't satisfy minimum version requirements"`},
	{expr: re(`Could not get ipvs family information from the kernel|Running modprobe \S+ failed|Failed to load kernel module`), source: "moby/ipvs, beside the line that decides",
		example: `time="2026-11-23T08:15:10Z" level=error msg="Could not get ipvs family information from the kernel. It is possible that ipvs is not enabled in your kernel."`},
	{expr: re(`Failed to create nfacct|conntrack entries|received a partial result`), source: "metrics and conntrack clean-up, retried",
		example: `E1123 08:15:02.981805      86 cleanup.go:54] "Failed to list conntrack entries" err="received a partial result"`},
	{expr: re(`Could not (check for|set up) iptables canary`), unless: re(`exit status 3`), source: "pkg/util/iptables Monitor: the lock was taken, it tries again",
		example: `Could not check for iptables canary mangle/KUBE-PROXY-CANARY: exit status 4`},
	{expr: re(`Failed to watch .*watch=true.*connection refused`), source: "client-go reflector: a watch that the API server's restart ended, followed by a list",
		example: `E0605 07:02:29.849391       1 reflector.go:382] k8s.io/client-go/informers/factory.go:135: Failed to watch *v1.Service: Get https://127.0.0.1:6443/api/v1/services?allowWatchBookmarks=true&resourceVersion=259289&timeout=8m16s&watch=true: dial tcp 127.0.0.1:6443: connect: connection refused`},
	{expr: re(`[Ww]atch closed with unexpected EOF|very short watch|watch ended with error|too old resource version|No iptables support for family|Kernel support disabled for family|Could not connect to D-Bus`), source: "client-go reflector; single-stack nodes",
		example: `W0101 08:18:53.814377       6 reflector.go:436] watch of *v1.Service ended with: very short watch: Unexpected watch close`},
}
