package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ports are the addresses in deployments/grafana/prometheus.yml, by the job.
var ports = regexp.MustCompile(`(?s)job_name: (\w+)\n.*?targets: \["(localhost:\d+)"\]`)

// A real Prometheus, with the configuration for the dashboard, scrapes a running system, and each query of the dashboard has an
// answer that is not empty.
func TestDashboardShowsARunningSystem(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("prometheus is not installed")
	}
	s := newSystem(t)
	s.variables["RECOGNITION_WEBHOOKS"] = "nobody=http://127.0.0.1:1/"
	s.variables["RECOGNITION_WEBHOOK_SECRETS"] = "nobody=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	services := map[string]*process{"ingest": s.start(t, "ingest"), "aggregator": s.start(t, "aggregator"), "query": s.start(t, "query")}
	services["totals"] = services["query"]

	folder := t.TempDir()
	config, err := os.ReadFile(filepath.Join("..", "deployments", "grafana", "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := "global: { scrape_interval: 1s }\n" + string(config)
	for _, found := range ports.FindAllStringSubmatch(text, -1) {
		here := strings.Replace(found[0], found[2], strings.TrimPrefix(services[found[1]].url, "http://"), 1)
		text = strings.Replace(text, found[0], here, 1)
	}
	if err := os.WriteFile(filepath.Join(folder, "prometheus.yml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	prometheus := exec.CommandContext(t.Context(), program, "--config.file="+filepath.Join(folder, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(folder, "data"), "--web.listen-address="+address, "--log.level=warn")
	prometheus.Stderr = os.Stderr
	if err := prometheus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = prometheus.Process.Kill()
		_ = prometheus.Wait()
	})

	for title, query := range dashboard(t) {
		posted := 0
		await(t, title, time.Minute, func() error {
			posted++ // so that there is a rate
			mustPost(t, services["ingest"].url+"/increments", fmt.Sprintf(`{"name":"foo","value":4,"contributor":"%d"}`, posted/3))
			return answers(t, address, strings.ReplaceAll(query, "$__rate_interval", "10s"))
		})
	}
}

// answers returns nil if a query has an answer with a number.
func answers(t *testing.T, address, query string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/api/v1/query?query="+url.QueryEscape(query), http.NoBody)
	if err != nil {
		return err
	}
	r, err := do(request)
	if err != nil {
		return err
	}
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", query, r.status, r.body)
	}
	for _, series := range answer.Data.Result {
		if series.Value[1] != "NaN" {
			return nil
		}
	}
	return fmt.Errorf("%s has no answer", query)
}

// dashboard returns the queries of the dashboard by their titles, and checks that panels do not overlap.
func dashboard(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deployments", "grafana", "accrue.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int    `json:"id"`
			Type    string `json:"type"`
			Title   string `json:"title"`
			GridPos struct {
				X, Y, W, H int
			} `json:"gridPos"`
			Targets []struct {
				Expr       string `json:"expr"`
				Datasource struct {
					UID string `json:"uid"`
				} `json:"datasource"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	queries, ids, taken := make(map[string]string), make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] || (p.Type != "row") != (len(p.Targets) > 0) {
			t.Errorf("panel %d, %s, has %d queries, or another one its id", p.ID, p.Title, len(p.Targets))
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s is where %s is, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for i, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%s reads %s", p.Title, target.Datasource.UID)
			}
			queries[fmt.Sprint(p.Title, " ", i)] = target.Expr
		}
	}
	return queries
}
