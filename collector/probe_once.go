package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kproxy-exporter/kproxy-exporter/prober"
)

// Errors of ProbeOnce: what is asked for is wrong, or not there.
var (
	ErrProbeRequest = errors.New("the request is wrong")
	ErrProbeNone    = errors.New("there is no such Service")
	ErrProbeOff     = errors.New("probing is off")
)

// ProbeOnce asks a port of a Service of this cluster now, and each of its IP
// families. Whatever is asked for, nothing else is dialled: the addresses are
// those that the API has for that Service.
func (n *Node) ProbeOnce(ctx context.Context, service, port, module string) ([]*prober.Round, error) {
	if n.probes == nil {
		return nil, fmt.Errorf("%w: see --probe.interval", ErrProbeOff)
	}
	text := module
	if port != "" {
		text += ":" + port
	}
	specs, err := parseProbeSpecs(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProbeRequest, err)
	}
	if len(specs) != 1 {
		return nil, fmt.Errorf("%w: %d modules", ErrProbeRequest, len(specs))
	}
	targets, err := n.probes.targetsOf(service, specs[0])
	if err != nil {
		return nil, err
	}
	var out []*prober.Round
	for i := range targets {
		out = append(out, n.probes.asker.Ask(ctx, &targets[i], 0, nil))
	}
	return out, nil
}

func (p *probes) targetsOf(service string, spec probeSpec) ([]prober.ServiceTarget, error) {
	v := p.desired.probeView(func(s *wantedService) bool { return s.name == service })
	if len(v.services) == 0 {
		return nil, fmt.Errorf("%w as %q that has an address of its own", ErrProbeNone, service)
	}
	targets, err := v.targets(v.services[0], spec, p.node, p.source, p.cfg.DNSName)
	if err != nil {
		return nil, fmt.Errorf("%w: service %s: %w", ErrProbeRequest, service, err)
	}
	var out []prober.ServiceTarget
	for i := range targets {
		out = append(out, v.fill(&targets[i], p.node))
	}
	return out, nil
}

var (
	onceSuccess  = family{"probe_success", "1 if the Service's own address answered in every IP family, 0 if not.", nil}
	onceDuration = family{"probe_duration_seconds", "How long the attempt at the Service's own address took, the longest of its IP families.", nil}
	oncePath     = family{"probe_path_success", "1 if all attempts by this path were answered, 0 if not.", []string{"ip_family", "path"}}
	oncePhase    = family{"probe_phase_duration_seconds", "How long a phase of the attempt at the Service's own address took.", []string{"ip_family", "phase"}}
)

// WriteRounds writes what became of an attempt, in Prometheus' text format.
func WriteRounds(w io.Writer, rounds []*prober.Round) error {
	e := newExposition(w)
	ok, longest := len(rounds) > 0, 0.0
	type way struct{ family, path string }
	well := map[way]bool{}
	for _, r := range rounds {
		family := r.Target.Key().Labels()[3]
		for i := range r.Attempts {
			a := &r.Attempts[i]
			k := way{family, string(a.Path)}
			if before, asked := well[k]; !asked || before {
				well[k] = a.OK()
			}
			if a.Path == prober.PathVIP {
				ok, longest = ok && a.OK(), max(longest, a.Total.Seconds())
			}
		}
	}
	e.begin(&onceDuration)
	e.sample(longest)
	ways := make([]way, 0, len(well))
	for k := range well {
		ways = append(ways, k)
	}
	slices.SortFunc(ways, func(a, b way) int { return slices.Compare([]string{a.family, a.path}, []string{b.family, b.path}) })
	e.begin(&oncePath)
	for _, k := range ways {
		e.sample(number(well[k]), k.family, k.path)
	}
	e.begin(&oncePhase)
	for _, r := range rounds {
		if a := r.Attempt(prober.PathVIP); a != nil {
			for _, p := range a.Took {
				e.sample(p.Took.Seconds(), r.Target.Key().Labels()[3], string(p.Phase))
			}
		}
	}
	e.begin(&onceSuccess)
	e.sample(number(ok))
	return e.end()
}
