package collector

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

func (d *Dump) problem(format string, args ...any) {
	d.Problems = append(d.Problems, fmt.Sprintf(format, args...))
}

func (d *Dump) read(name string, limit int64) ([]byte, error) {
	f, err := d.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, nil
}

// dumpDir is a directory of a dump: a foreign one. Links out of it are not
// followed, and only regular files and directories are opened: a pipe or a
// device could be read without end.
type dumpDir struct{ root *os.Root }

// DumpFiles opens a directory, written by 'kubectl cluster-info dump', for
// OpenDump. The caller closes it.
func DumpFiles(dir string) (interface {
	fs.FS
	io.Closer
}, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: dir, Err: errors.New("not a directory")} // a pipe would not be opened at once
	}
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return dumpDir{root}, nil
}

func (d dumpDir) Close() error { return d.root.Close() }

func (d dumpDir) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	// With O_NONBLOCK the opening of a pipe without a writer returns at once.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// load puts the objects of a list into a table; false if there is no such list.
// An object that cannot be read costs only itself.
func load[T any, O any, P interface {
	*O
}](d *Dump, name string, into *table[T], seen func(P)) bool {
	b, err := d.read(name, dumpFileBytes)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(name, "default/") {
			d.problem("%s: %v", name, err)
		}
		return false
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(b, &list); err != nil {
		d.problem("%s: %v", name, err)
		return false
	}
	for i, raw := range list.Items {
		if text := strings.TrimSpace(string(raw)); text == "null" || text == "{}" {
			d.problem("%s: item %d is empty", name, i)
			continue
		}
		object := P(new(O))
		if err := json.Unmarshal(raw, object); err != nil {
			d.problem("%s: item %d: %v", name, i, err)
			continue
		}
		nameless(object, i)
		seen(object)
		if err := into.Add(object); err != nil {
			d.problem("%s: item %d: %v", name, i, err)
		}
	}
	return true
}

// nameless gives an object that lost its name one of its own.
func nameless(object any, i int) {
	if o, err := meta.Accessor(object); err == nil && o.GetName() == "" {
		o.SetName(fmt.Sprintf("item-%d", i))
	}
}

// saw notes a moment.
func (d *Dump) saw(moments ...time.Time) {
	for _, t := range moments {
		if t.After(d.newest) {
			d.newest = t
		}
	}
}

func (d *Dump) seenNode(n *corev1.Node) {
	for _, c := range n.Status.Conditions {
		d.saw(c.LastHeartbeatTime.Time, c.LastTransitionTime.Time)
	}
}

func (d *Dump) seenPod(p *corev1.Pod) {
	d.saw(p.CreationTimestamp.Time)
	for _, c := range p.Status.Conditions {
		d.saw(c.LastTransitionTime.Time)
	}
	for _, s := range p.Status.ContainerStatuses {
		for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
			if state.Running != nil {
				d.saw(state.Running.StartedAt.Time)
			}
			if state.Terminated != nil {
				d.saw(state.Terminated.FinishedAt.Time)
			}
		}
	}
}

func (d *Dump) seenEvent(e *corev1.Event) { d.saw(eventTime(e)) }
