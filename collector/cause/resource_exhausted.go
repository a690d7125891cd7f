package cause

import (
	"fmt"
	"time"
)

var resourceExhausted = Cause{
	Name:    "resource_exhausted",
	Meaning: "kube-proxy ran into a limit of the node.",
	Details: []Detail{
		{"inotify", "Raise fs.inotify.max_user_instances on the node; find who holds so many."},
		{"file_descriptors", "Raise the limit of open files of the container runtime's unit; find the leak."},
	},
	Eval: func(s *Snapshot) Verdict { return fromLogs(s, "resource_exhausted") },
	Node: func(s *Snapshot) Verdict {
		i, p := s.Local.Inotify, s.Local.Proxy
		if i != nil && !i.Left {
			return active(i.Since, Finding{"inotify", []string{"the kernel gives root no more inotify instance: " + quote(i.Error)}})
		}
		if p != nil && p.FilesMax > 0 && p.FilesOpen >= filesNear*p.FilesMax {
			return active(time.Time{}, Finding{"file_descriptors", []string{fmt.Sprintf("kube-proxy has %.0f of at most %.0f files open", p.FilesOpen, p.FilesMax)}})
		}
		if i == nil || p == nil || p.FilesMax == 0 {
			return unknown("the limits of inotify and of kube-proxy's open files")
		}
		return inactive()
	},
}

// filesNear is the part of its descriptors from which on a process will soon fail.
const filesNear = 0.9
