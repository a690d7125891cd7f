package main

import (
	"context"
	"flag"
	"io"
	stdlog "log"
	"log/slog"
	"strings"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
	"github.com/go-logr/logr"
	sloggokit "github.com/tjhop/slog-gokit"
	"k8s.io/klog/v2"
)

// logs are the three faces of one log. The project speaks go-kit/log; the
// toolkit wants slog, client-go wants logr.
type logs struct {
	logger log.Logger
	slog   *slog.Logger
	klog   logr.Logger
}

func newLogs(w io.Writer, lvl, format string) logs {
	base := log.NewLogfmtLogger(log.NewSyncWriter(w))
	if format == "json" {
		base = log.NewJSONLogger(log.NewSyncWriter(w))
	}
	var slogLevel slog.Level
	if err := slogLevel.UnmarshalText([]byte(lvl)); err != nil {
		slogLevel = slog.LevelInfo // the flag takes only known names
	}
	// The bridge adds time, level and caller itself, so it gets the bare
	// logger and ours the same keys. Each side has its own gate.
	handler := sloggokit.NewGoKitHandler(base, slogLevel)
	return logs{
		logger: log.With(level.NewFilter(base, level.Allow(level.ParseDefault(lvl, level.InfoValue()))),
			"time", log.DefaultTimestampUTC, "caller", log.DefaultCaller),
		slog: slog.New(handler),
		klog: logr.FromSlogHandler(handler),
	}
}

// server is the log of an http.Server, whose own goes past ours.
func (l logs) server() *stdlog.Logger { return stdlog.New(serverLog{l.slog}, "", 0) }

// serverLog takes a line at a time.
type serverLog struct{ *slog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	text, lvl := strings.TrimSpace(string(line)), slog.LevelWarn
	for _, clients := range []string{"http: TLS handshake error", "http2: server: error reading preface"} {
		if strings.HasPrefix(text, clients) { // anybody may make as many of these as he likes
			lvl = slog.LevelDebug
		}
	}
	l.Log(context.Background(), lvl, "the web server says", "err", text)
	return len(line), nil
}

// setKlog gives client-go the log, and sets klog's own gate, which stands before every
// other; both are process-wide.
func setKlog(l logs, lvl string) {
	v := "0"
	if lvl == "debug" {
		v = "4"
	}
	klog.SetLogger(l.klog)
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	_ = flags.Set("v", v)
}
