package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kproxy-exporter/kproxy-exporter/lab/machine"
)

// Scraped is what a scrape was.
type Scraped struct {
	Seconds float64
	Bytes   int
	// Lines is how many began with the prefix that was asked for and hold what
	// was, Sum what their values add up to, and Max the greatest of them.
	Lines    int
	Sum, Max float64
}

// scrape scrapes inside the machine's network: a forward would cost both sides
// by their bytes.
func scrape(m *machine.Machine, url, prefix string) (Scraped, error) {
	var s Scraped
	out, err := m.Run("/opt/lab/kproxy-lab", "scrape", "--prefix="+prefix, url)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// Scrape asks for url, uncompressed, and counts the lines that begin with
// prefix, if there is one, and hold all of the texts.
func Scrape(url, prefix string, holds []string) (Scraped, error) {
	var s Scraped
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return s, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s: %s", url, res.Status)
	}
	if prefix == "" { // timed: whoever reads must not count
		n, err := io.Copy(io.Discard, res.Body)
		s.Bytes, s.Seconds = int(n), time.Since(began).Seconds()
		return s, err
	}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		s.Bytes += len(lines.Bytes()) + 1
		if strings.HasPrefix(lines.Text(), prefix) && !slices.ContainsFunc(holds, func(h string) bool { return !strings.Contains(lines.Text(), h) }) {
			s.Lines++
			var value float64
			if _, err := fmt.Sscan(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], &value); err == nil {
				s.Sum += value
				s.Max = max(s.Max, value)
			}
		}
	}
	s.Seconds = time.Since(began).Seconds()
	return s, lines.Err()
}
