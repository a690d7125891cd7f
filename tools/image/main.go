// Command image builds a container image archive of one layer, without a
// container engine and without a base, from files of this machine. The same
// files give the same digest.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	out := kingpin.Flag("output", "Archive to write.").Short('o').Required().String()
	ref := kingpin.Flag("ref", "Image reference.").Required().String()
	arch := kingpin.Flag("arch", "Architecture.").Default("amd64").String()
	user := kingpin.Flag("user", "User that the image runs as.").String()
	entrypoint := kingpin.Flag("entrypoint", "Path of the program.").Required().String()
	files := kingpin.Flag("file", "host-path:image-path; links are followed. May be repeated.").StringMap()
	links := kingpin.Flag("link", "image-path=target. May be repeated.").StringMap()
	list := kingpin.Arg("files", "host-path=image-path, as with --file.").StringMap()
	kingpin.Parse()
	for k, v := range *list {
		(*files)[k] = v
	}
	if err := build(*out, *ref, *arch, *user, *entrypoint, *files, *links); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func build(out, ref, arch, user, entrypoint string, files, links map[string]string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	content, err := layer(files, links)
	if err != nil {
		return err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	cfg, err := image.ConfigFile()
	if err != nil {
		return err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", arch
	cfg.Config = v1.Config{Entrypoint: []string{entrypoint}, User: user, Env: []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}
	if image, err = mutate.ConfigFile(image, cfg); err != nil {
		return err
	}
	return tarball.WriteToFile(out, tag, image)
}

// layer is a tar of the files and links, in order, with their directories and
// without owners or times.
func layer(files, links map[string]string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	entries := map[string]func() error{}
	for host, inside := range files {
		entries[clean(inside)] = func() error { return addFile(w, host, clean(inside)) }
	}
	for inside, target := range links {
		entries[clean(inside)] = func() error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: clean(inside), Linkname: target, Mode: 0o777, ModTime: time.Unix(0, 0)})
		}
	}
	for name := range entries {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			entries[dir+"/"] = func() error {
				return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
			}
		}
	}
	names := make([]string, 0, len(entries))
	for n := range entries {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if err := entries[n](); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

func clean(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

func addFile(w *tar.Writer, host, inside string) error {
	b, err := os.ReadFile(host)
	if err != nil {
		return err
	}
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: inside, Size: int64(len(b)), Mode: mode, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
