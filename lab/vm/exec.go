package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// result is what became of a command; the agent has the same.
type result struct {
	Stdout          []byte
	Stderr, Failure string
}

// Exec runs a command as root in the guest and returns its output; an error
// carries what it wrote to its other one. The context ends the command too.
func (v *VM) Exec(ctx context.Context, args ...string) (string, error) {
	b, err := json.Marshal(args)
	if err != nil {
		return "", err
	}
	var res result
	b, err = v.ask(ctx, http.MethodPost, "/exec", bytes.NewReader(b))
	if err == nil {
		err = json.Unmarshal(b, &res)
	}
	if err == nil && res.Failure != "" {
		err = fmt.Errorf("%s: %s", res.Failure, strings.TrimSpace(res.Stderr))
	}
	if err != nil {
		return string(res.Stdout), fmt.Errorf("%s: %s: %w", v.Name, strings.Join(args, " "), err)
	}
	return string(res.Stdout), nil
}

// Start starts a command in the guest and leaves it running; Log is what it writes.
func (v *VM) Start(ctx context.Context, name string, args ...string) error {
	script := `exec "$@" >>"$0" 2>&1 & echo $! >"$0.pid"`
	_, err := v.Exec(ctx, append([]string{"sh", "-c", script, logPath(name)}, args...)...)
	return err
}

// Stop ends, with a signal as kill(1) knows it, what Start started, and returns
// when it has ended.
func (v *VM) Stop(ctx context.Context, name, signal string) error {
	script := `pid=$(cat "$0.pid") && kill -s "$1" "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done`
	_, err := v.Exec(ctx, "sh", "-c", script, logPath(name), signal)
	return err
}

// Log is what a command that Start started has written.
func (v *VM) Log(ctx context.Context, name string) (string, error) {
	return v.Exec(ctx, "cat", logPath(name))
}

func logPath(name string) string { return "/var/log/" + name + ".log" }

// Put writes a file in the guest, with its directories.
func (v *VM) Put(ctx context.Context, path string, content io.Reader, mode os.FileMode) error {
	query := url.Values{"path": {path}, "mode": {strconv.FormatUint(uint64(mode.Perm()), 8)}}
	if _, err := v.ask(ctx, http.MethodPut, "/file?"+query.Encode(), content); err != nil {
		return fmt.Errorf("%s: write %s: %w", v.Name, path, err)
	}
	return nil
}

func (v *VM) ask(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+v.Forward(agentPort)+path, body)
	if err != nil {
		return nil, err
	}
	req.Close = true // no connection waits for a machine that may be gone
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		select {
		case <-v.ended:
			return nil, v.describe(errors.New("it has ended"))
		default:
			return nil, err
		}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(b)))
	}
	return b, err
}
