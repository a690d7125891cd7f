// Command kproxy-lab runs a real Kubernetes on one machine and breaks it on purpose.
package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == machine.InitCommand {
		exit(machine.Init())
	}
	app := kingpin.New("kproxy-lab", "A real Kubernetes in namespaces of one machine, and faults for it.")
	app.HelpFlag.Short('h')
	lab := app.Flag("lab", "Directory of the lab.").Default(".lab").Envar("LAB").String()
	commands := map[string]func() error{}
	for _, add := range []func(*kingpin.Application, *string) (string, func() error){
		upCommand, downCommand, checkCommand, execCommand, nodeCommand, installCommand, loadCommand, kubectlCommand, registryCommand, discoveryCommand, inboxCommand, listCommand, injectCommand, healCommand, demoCommand, benchCommand, fillCommand, scrapeCommand, dialCommand, answerCommand,
	} {
		name, run := add(app, lab)
		commands[name] = run
	}
	exit(commands[kingpin.MustParse(app.Parse(os.Args[1:]))]())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "kproxy-lab:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// registryCommand serves a real, empty image registry: an image that is not
// there is answered as any registry answers it.
func registryCommand(app *kingpin.Application, _ *string) (string, func() error) {
	cmd := app.Command("registry", "Serve an empty image registry (the control plane runs it).").Hidden()
	listen := cmd.Flag("listen", "Address to listen on.").Required().String()
	cert := cmd.Flag("cert", "Serve TLS with this certificate.").String()
	key := cmd.Flag("key", "Its key.").String()
	patient := cmd.Flag("patient", "Wait until whoever listens there lets go of it.").Bool()
	return cmd.FullCommand(), func() error {
		l, err := net.Listen("tcp", *listen)
		for *patient && errors.Is(err, syscall.EADDRINUSE) {
			time.Sleep(5 * time.Millisecond)
			l, err = net.Listen("tcp", *listen)
		}
		if err != nil {
			return err
		}
		if *cert != "" {
			return http.ServeTLS(l, registry.New(), *cert, *key)
		}
		return http.Serve(l, registry.New())
	}
}
