package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Service is a process that the machine's first process starts and watches.
// It is never started again by itself: a lab must be able to leave it dead.
type Service struct {
	Name string
	Argv []string
	Env  []string
}

// ServiceState is what is known of a service now.
type ServiceState struct {
	Service
	PID     int
	Running bool
	// Exit says how it ended.
	Exit string
}

// LogPath is where a service's output goes, inside the machine.
func LogPath(service string) string { return filepath.Join("/var/log", service+".log") }

func (m *Machine) call(method, path string, body any) ([]byte, error) {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", m.Spec.socket())
		},
	}}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, "http://machine"+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err = io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(string(bytes.TrimSpace(b)))
	}
	return b, err
}

// StartService starts a process; a name that is known and no Argv starts it as it was.
func (m *Machine) StartService(s Service) error {
	_, err := m.call(http.MethodPost, "/start", s)
	if err != nil {
		return fmt.Errorf("%s: start %s: %w", m.Spec.Name, s.Name, err)
	}
	return nil
}

// StopService sends a signal to a service and waits until it ended.
func (m *Machine) StopService(name string, signal syscall.Signal) error {
	_, err := m.call(http.MethodPost, "/stop", stopRequest{name, signal})
	if err != nil {
		return fmt.Errorf("%s: stop %s: %w", m.Spec.Name, name, err)
	}
	return nil
}

// SignalService sends a signal to a service and does not wait.
func (m *Machine) SignalService(name string, signal syscall.Signal) error {
	states, err := m.Services()
	if err != nil {
		return err
	}
	for _, s := range states {
		if s.Name == name && s.Running {
			_, err := m.Run("kill", fmt.Sprintf("-%d", signal), strconv.Itoa(s.PID))
			return err
		}
	}
	return fmt.Errorf("%s: %s does not run", m.Spec.Name, name)
}

// Services lists what was started.
func (m *Machine) Services() ([]ServiceState, error) {
	b, err := m.call(http.MethodGet, "/services", nil)
	if err != nil {
		return nil, err
	}
	var out []ServiceState
	return out, json.Unmarshal(b, &out)
}

// Tail returns the last lines of a service's log.
func (m *Machine) Tail(service string, lines int) string {
	p := m.Path(LogPath(service))
	if !m.Alive() {
		p = filepath.Join(m.Spec.Dir, "upper", LogPath(service))
	}
	return tailFile(p, lines)
}

type stopRequest struct {
	Name   string
	Signal syscall.Signal
}

// supervisor runs in the machine's first process.
type supervisor struct {
	mu    sync.Mutex
	ended *sync.Cond
	// mu protects services.
	services map[string]*ServiceState
	order    []string
}

func newSupervisor() *supervisor {
	s := &supervisor{services: map[string]*ServiceState{}}
	s.ended = sync.NewCond(&s.mu)
	go s.reap()
	return s
}

func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		out := []ServiceState{}
		for _, n := range s.order {
			out = append(out, *s.services[n])
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	mux.HandleFunc("POST /start", func(w http.ResponseWriter, r *http.Request) {
		var in Service
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := s.start(in); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, r *http.Request) {
		var in stopRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := s.stop(in); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	return mux
}

func (s *supervisor) start(in Service) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.services[in.Name]
	if st != nil && st.Running {
		return errors.New("it is running")
	}
	if st == nil {
		if len(in.Argv) == 0 {
			return errors.New("it is not known and no command was given")
		}
		st = &ServiceState{}
		s.services[in.Name] = st
		s.order = append(s.order, in.Name)
	}
	if len(in.Argv) > 0 {
		st.Service = in
	}
	log, err := os.OpenFile(LogPath(st.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	p, err := os.StartProcess(st.Argv[0], st.Argv, &os.ProcAttr{
		Dir: "/", Env: append(os.Environ(), st.Env...), Files: []*os.File{null, log, log},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	st.PID, st.Running, st.Exit = p.Pid, true, ""
	return p.Release()
}

func (s *supervisor) stop(in stopRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.services[in.Name]
	if st == nil || !st.Running {
		return nil
	}
	if err := syscall.Kill(st.PID, in.Signal); err != nil {
		return err
	}
	timeout := time.AfterFunc(20*time.Second, s.ended.Broadcast)
	defer timeout.Stop()
	for began := time.Now(); st.Running; s.ended.Wait() {
		if time.Since(began) >= 20*time.Second {
			return fmt.Errorf("it did not end within 20s of signal %d", in.Signal)
		}
	}
	return nil
}

// reap collects every child, its own services and the orphans of others.
func (s *supervisor) reap() {
	for {
		// Wait without collecting: a service's pid must not be free for reuse
		// before its state is known.
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			if errors.Is(err, unix.ECHILD) {
				time.Sleep(50 * time.Millisecond) // no child yet
			}
			continue
		}
		s.mu.Lock()
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == nil && pid > 0 {
			for _, st := range s.services {
				if st.Running && st.PID == pid {
					st.Running, st.Exit = false, describe(ws)
					s.ended.Broadcast()
				}
			}
		}
		s.mu.Unlock()
	}
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + ws.Signal().String()
	}
	return fmt.Sprintf("exit code %d", ws.ExitStatus())
}
