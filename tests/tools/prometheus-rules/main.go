// Program prometheus-rules reads alerting rules and PromQL as Prometheus does, by its own libraries.
//
//	prometheus-rules check FILE     the groups of FILE as `promtool check rules` reads them; a line of JSON for each alert
//	prometheus-rules metrics        expressions on standard input, a line each; the metrics that each selects, as JSON
//	prometheus-rules fire FILE      cases on standard input, a line of JSON each: series, and how many minutes; which alerts
//	                                of FILE fire then, a line of JSON each
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "check":
		return check(arguments[1])
	case len(arguments) == 1 && arguments[0] == "metrics":
		return metrics()
	case len(arguments) == 2 && arguments[0] == "fire":
		return fire(arguments[1])
	default:
		return errors.New("usage: prometheus-rules check FILE | metrics | fire FILE")
	}
}

func read(file string) ([]rulefmt.Rule, error) {
	groups, problems := rulefmt.ParseFile(file, false, model.UTF8Validation)
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	var rules []rulefmt.Rule
	for _, group := range groups.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules, nil
}

// selected are the names of the metrics that an expression selects, each with the labels that it is asked for by.
func selected(expression string) (map[string][]string, error) {
	expr, err := parser.ParseExpr(expression)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	found := map[string][]string{}
	for _, matchers := range parser.ExtractSelectors(expr) {
		name, asked := "", []string{}
		for _, matcher := range matchers {
			if matcher.Name == labels.MetricName {
				name = matcher.Value
			} else {
				asked = append(asked, matcher.Name)
			}
		}
		found[name] = append(found[name], asked...)
	}
	return found, nil
}

type described struct {
	Alert       string              `json:"alert"`
	Labels      map[string]string   `json:"labels"`
	Annotations map[string]string   `json:"annotations"`
	Metrics     map[string][]string `json:"metrics"`
}

func check(file string) error {
	rules, err := read(file)
	if err != nil {
		return err
	}
	for _, rule := range rules {
		used, err := selected(rule.Expr)
		if err != nil {
			return err
		}
		if err := tell(described{rule.Alert, rule.Labels, rule.Annotations, used}); err != nil {
			return err
		}
	}
	return nil
}

func metrics() error {
	return eachLine(func(line []byte) error {
		used, err := selected(string(line))
		if err != nil {
			return err
		}
		return tell(used)
	})
}

// scene is what Prometheus has seen: series in the notation of its own tests, a sample a minute.
type scene struct {
	Series  []string `json:"series"`
	Minutes int      `json:"minutes"`
}

func fire(file string) error {
	rules, err := read(file)
	if err != nil {
		return err
	}
	return eachLine(func(line []byte) error {
		var seen scene
		if err := json.Unmarshal(line, &seen); err != nil {
			return err
		}
		firing, err := firing(rules, seen)
		if err != nil {
			return err
		}
		return tell(firing)
	})
}

func firing(rules []rulefmt.Rule, seen scene) ([]string, error) {
	bench := &bench{}
	defer bench.close()
	data := promqltest.LoadedStorage(bench, "load 1m\n  "+strings.Join(seen.Series, "\n  "))
	engine := promqltest.NewTestEngine(bench, false, 0, 1_000_000)
	names := []string{}
	for _, rule := range rules {
		held, err := heldFor(engine, data, rule, seen.Minutes)
		if err != nil {
			return nil, err
		}
		if held {
			names = append(names, rule.Alert)
		}
	}
	sort.Strings(names)
	return names, nil
}

// heldFor says whether the rule's expression gave a result at every minute of the rule's `for` up to that one.
func heldFor(engine *promql.Engine, data storage.Queryable, rule rulefmt.Rule, minutes int) (bool, error) {
	end := time.Unix(0, 0).Add(time.Duration(minutes) * time.Minute)
	for at := end.Add(-time.Duration(rule.For)); !at.After(end); at = at.Add(time.Minute) {
		query, err := engine.NewInstantQuery(context.Background(), data, nil, rule.Expr, at)
		if err != nil {
			return false, err
		}
		result := query.Exec(context.Background())
		vector, err := result.Vector()
		if err != nil || len(vector) == 0 {
			return false, err
		}
	}
	return true, nil
}

// bench stands in for the test that Prometheus' own test storage wants to belong to.
type bench struct {
	testing.TB
	cleanups []func()
}

func (b *bench) Helper()                        {}
func (b *bench) Name() string                   { return "prometheus-rules" }
func (b *bench) Cleanup(f func())               { b.cleanups = append(b.cleanups, f) }
func (b *bench) Log(...any)                     {}
func (b *bench) Logf(string, ...any)            {}
func (b *bench) Errorf(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }
func (b *bench) FailNow()                       { os.Exit(1) }
func (b *bench) close() {
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
}

func eachLine(act func([]byte) error) error {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if text := strings.TrimSpace(string(line)); text != "" {
			if err := act([]byte(text)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func tell(answer any) error { return json.NewEncoder(os.Stdout).Encode(answer) }
