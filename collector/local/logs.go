package local

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds of what is kept and read of logs.
const (
	// tailBytes is how much of a container's log is kept to be judged.
	tailBytes = 64 << 10
	// pollBytes is how much is read of a file in one poll; the rest is read in
	// the next.
	pollBytes = 4 << 20
	// lineBytes is how long a line may be; what is longer is cut.
	lineBytes = 16 << 10
)

// Logs follows the logs of the node's kube-proxy containers as the kubelet keeps
// them, NAMESPACE_POD_UID/CONTAINER/RESTARTS.log: over restarts and rotations,
// each line once. What was there when it came is not counted, but judged.
type Logs struct {
	dir, namespace string
	line           func([]byte)
	files          map[fileID]*logFile
	started        bool
}

// fileID is a file, whatever its name is now.
type fileID struct{ device, inode uint64 }

// logFile is a file that is being read. It is held open, so that what a
// rotation moves away is read to its end.
type logFile struct {
	file *os.File
	// container is its directory, restarts its number there.
	container string
	restarts  int
	// part is the beginning of a line whose end has not come.
	part []byte
	// tail is the end of what was read.
	tail []byte
	// seen says that the last poll found it under a name.
	seen bool
}

// NewLogs follows what is below dir, /var/log/pods on most nodes, of a namespace:
// anybody may call his pod kube-proxy. line is told of
// each line that is written from now on.
func NewLogs(dir, namespace string, line func([]byte)) *Logs {
	return &Logs{dir: dir, namespace: namespace, line: line, files: map[fileID]*logFile{}}
}

// Poll reads what is new. An error says that some could not be read.
func (l *Logs) Poll() error {
	paths, err := l.find()
	if err != nil {
		return err
	}
	for _, f := range l.files {
		f.seen = false
	}
	var all []error
	for _, p := range paths {
		all = append(all, l.open(p))
	}
	for id, f := range l.files {
		ended, err := f.read(l.line)
		all = append(all, err)
		if !f.seen && ended || err != nil {
			if err == nil && len(f.part) > 0 {
				l.line(f.part) // nobody will end it any more
			}
			f.file.Close() // moved away, and read to its end
			delete(l.files, id)
		}
	}
	l.started = true
	return errors.Join(all...)
}

// logPath is a file that holds a log now.
type logPath struct {
	path, container string
	restarts        int
}

// find lists the files of kube-proxy's containers that are written or were
// written last: the two with the highest numbers of each container.
func (l *Logs) find() ([]logPath, error) {
	pods, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var out []logPath
	for _, pod := range pods {
		parts := strings.Split(pod.Name(), "_")
		if len(parts) != 3 || parts[0] != l.namespace || !strings.HasPrefix(parts[1], "kube-proxy") {
			continue
		}
		containers, err := os.ReadDir(filepath.Join(l.dir, pod.Name()))
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, c := range containers {
			if strings.HasPrefix(c.Name(), "kube-proxy") {
				out = append(out, newest(filepath.Join(l.dir, pod.Name(), c.Name()))...)
			}
		}
	}
	return out, nil
}

func newest(container string) []logPath {
	files, err := os.ReadDir(container)
	if err != nil {
		return nil
	}
	var out []logPath
	for _, f := range files {
		number, isLog := strings.CutSuffix(f.Name(), ".log")
		n, err := strconv.Atoi(number)
		if isLog && err == nil && n >= 0 {
			out = append(out, logPath{filepath.Join(container, f.Name()), container, n})
		}
	}
	slices.SortFunc(out, func(a, b logPath) int { return a.restarts - b.restarts })
	return out[max(0, len(out)-2):]
}

// open begins to read a file that is not read yet.
func (l *Logs) open(p logPath) error {
	f, err := os.OpenFile(p.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would hold us up
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		f.Close()
		return errors.New(p.path + " is no regular file")
	}
	id := fileID{stat.Dev, stat.Ino}
	if known := l.files[id]; known != nil {
		known.seen = true
		f.Close()
		return nil
	}
	file := &logFile{file: f, container: p.container, restarts: p.restarts, seen: true}
	l.files[id] = file
	if !l.started {
		return file.skip(info.Size())
	}
	return nil
}

// skip goes to the end of what was there before, and keeps its tail.
func (f *logFile) skip(size int64) error {
	from := max(0, size-tailBytes)
	tail := make([]byte, size-from)
	n, err := f.file.ReadAt(tail, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	tail = tail[:n]
	if i := bytes.LastIndexByte(tail, '\n'); i+1 < len(tail) {
		f.part = bytes.Clone(tail[i+1:])
	}
	f.tail = tail
	_, err = f.file.Seek(from+int64(n), io.SeekStart)
	return err
}

// read reads on; ended says that it came to the end. A file that became shorter
// was written anew.
func (f *logFile) read(line func([]byte)) (ended bool, err error) {
	at, err := f.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, err
	}
	if info, err := f.file.Stat(); err == nil && info.Size() < at {
		if _, err := f.file.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		f.part = nil
	}
	b, err := io.ReadAll(io.LimitReader(f.file, pollBytes))
	if err != nil {
		return false, err
	}
	f.tail = append(f.tail, b...)
	if cut := len(f.tail) - tailBytes; cut > 0 {
		f.tail = bytes.Clone(f.tail[cut:])
	}
	ended = len(b) < pollBytes
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		whole := append(f.part, b[:i]...)
		line(whole[:min(len(whole), lineBytes)])
		f.part, b = nil, b[i+1:]
	}
	if len(f.part) < lineBytes {
		f.part = append(f.part, b...)
	}
	return ended, nil
}

// Tails are the ends of the newest container's log and of that before it was
// started again; nil if there is none. Another pod's says nothing of why this one
// was started.
func (l *Logs) Tails() (newest, before []byte) {
	var files []*logFile
	for _, f := range l.files {
		if f.seen {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *logFile) int {
		if a.container != b.container {
			return modified(a).Compare(modified(b))
		}
		return a.restarts - b.restarts
	})
	if n := len(files); n > 0 {
		newest = files[n-1].tail
		if n > 1 && files[n-2].container == files[n-1].container {
			before = files[n-2].tail
		}
	}
	return newest, before
}

func modified(f *logFile) time.Time {
	info, err := f.file.Stat()
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Close lets go of every file.
func (l *Logs) Close() {
	for _, f := range l.files {
		f.file.Close()
	}
	l.files = map[fileID]*logFile{}
}
