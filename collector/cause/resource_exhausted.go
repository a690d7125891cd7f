package cause

var resourceExhausted = Cause{
	Name:    "resource_exhausted",
	Meaning: "kube-proxy ran into a limit of the node.",
	Details: []Detail{
		{"inotify", "Raise fs.inotify.max_user_instances on the node; find who holds so many."},
		{"file_descriptors", "Raise the limit of open files of the container runtime's unit; find the leak."},
	},
	Eval: func(s *Snapshot) Verdict { return fromLogs(s, "resource_exhausted") },
}
