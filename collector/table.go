package collector

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// table is a reflector's store that keeps only what a reader makes of each
// object; the object itself is let go at once.
type table[T any] struct {
	convert func(object any) (value T, keep bool)
	// changed is told of every row that comes, changes or goes, while the table
	// is locked: previous and current are nil where there is none.
	changed func(previous, current *T)
	synced  func()

	mu   sync.RWMutex
	rows map[string]*T
	// listing says that what comes now is a list: what changed did so at any time
	// since the source was last heard.
	listing bool
}

func newTable[T any](convert func(any) (T, bool), changed func(previous, current *T), synced func()) *table[T] {
	return &table[T]{convert: convert, changed: changed, synced: synced, rows: map[string]*T{}}
}

// each calls do for every row; do must not keep the pointer to change it.
func (t *table[T]) each(do func(row *T)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, r := range t.rows {
		do(r)
	}
}

func key(object any) (string, error) {
	o, err := meta.Accessor(object)
	if err != nil {
		return "", fmt.Errorf("object %T: %w", object, err)
	}
	return o.GetNamespace() + "/" + o.GetName(), nil
}

func (t *table[T]) set(k string, row *T) {
	previous := t.rows[k]
	if row == nil {
		delete(t.rows, k)
	} else {
		t.rows[k] = row
	}
	if t.changed != nil && (previous != nil || row != nil) {
		t.changed(previous, row)
	}
}

// has is whether there is a row of that key.
func (t *table[T]) has(k string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.rows[k] != nil
}

// put sets a row that was made of no object.
func (t *table[T]) put(k string, row *T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(k, row)
}

// kept is a row on its way into the table: client-go gathers a whole list before
// it hands it over, and whole objects of thousands of nodes would fill the memory.
type kept[T any] struct {
	metav1.ObjectMeta // of which only the key is set
	row               *T
}

// Transformer implements cache.TransformingStore.
func (t *table[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		o, err := meta.Accessor(object)
		if err != nil {
			return nil, fmt.Errorf("object %T: %w", object, err)
		}
		return &kept[T]{metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}, t.row(object)}, nil
	}
}

func (t *table[T]) row(object any) *T {
	if k, ok := object.(*kept[T]); ok {
		return k.row
	}
	if v, keep := t.convert(object); keep {
		return &v
	}
	return nil
}

// Add implements cache.ReflectorStore.
func (t *table[T]) Add(object any) error {
	k, err := key(object)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(k, t.row(object))
	return nil
}

// Update implements cache.ReflectorStore.
func (t *table[T]) Update(object any) error { return t.Add(object) }

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(object any) error {
	k, err := key(object)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.set(k, nil)
	return nil
}

// Replace implements cache.ReflectorStore.
func (t *table[T]) Replace(objects []any, _ string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listing = true
	defer func() { t.listing = false }()
	gone := make(map[string]bool, len(t.rows))
	for k := range t.rows {
		gone[k] = true
	}
	for _, o := range objects {
		k, err := key(o)
		if err != nil {
			return err
		}
		delete(gone, k)
		t.set(k, t.row(o))
	}
	for k := range gone {
		t.set(k, nil)
	}
	t.synced()
	return nil
}

// Resync implements cache.ReflectorStore; nothing here depends on repetition.
func (t *table[T]) Resync() error { return nil }
