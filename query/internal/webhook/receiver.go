package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// MaxReceivers bounds the receivers. Each has a subscription, and holds up to maxHeld events in memory.
const MaxReceivers = 20

// The bounds of a secret in bytes, and what it begins with, as in Standard Webhooks.
const (
	minSecret, maxSecret = 24, 64
	secretPrefix         = "whsec_"
	// maxSecrets bounds the secrets of one receiver: the one in use, and the next.
	maxSecrets = 2
)

// Receiver is where events are posted.
type Receiver struct {
	// Name identifies the receiver in the names of subscriptions, in logs and in metrics.
	Name string
	URL  string
	// Secrets sign each request: one, or two while it is being changed.
	Secrets [][]byte
}

var (
	// ErrReceivers says what receivers must be.
	ErrReceivers = fmt.Errorf("up to %d receivers as name=URL, separated by commas, with https, or http for an address of one's own network", MaxReceivers)
	// ErrSecrets says what secrets must be.
	ErrSecrets = fmt.Errorf("one or two secrets for each receiver as name=%s and %d to %d bytes in base64, separated by commas", secretPrefix, minSecret, maxSecret)
)

var receiverName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$`)

// Receivers returns the receivers of texts of the form name=URL and name=secret. The error is ErrReceivers, ErrSecrets, or both.
func Receivers(texts, secrets []string) ([]Receiver, error) {
	all, err := receivers(texts)
	of := make(map[string][][]byte)
	for _, text := range secrets {
		name, secret, _ := strings.Cut(text, "=")
		key, wrong := parseSecret(secret)
		if wrong != nil || len(of[name]) == maxSecrets {
			return nil, errors.Join(err, ErrSecrets)
		}
		of[name] = append(of[name], key)
	}
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Secrets = of[all[i].Name]
		delete(of, all[i].Name)
		if len(all[i].Secrets) == 0 {
			return nil, ErrSecrets
		}
	}
	if len(of) > 0 { // of receivers that there are not
		return nil, ErrSecrets
	}
	return all, nil
}

// receivers returns the receivers of texts of the form name=URL, without their secrets, or ErrReceivers.
func receivers(texts []string) ([]Receiver, error) {
	if len(texts) > MaxReceivers {
		return nil, ErrReceivers
	}
	all := make([]Receiver, 0, len(texts))
	for _, text := range texts {
		name, address, _ := strings.Cut(text, "=")
		known := slices.ContainsFunc(all, func(r Receiver) bool { return r.Name == name })
		if known || !receiverName.MatchString(name) || !validURL(address) {
			return nil, ErrReceivers
		}
		all = append(all, Receiver{Name: name, URL: address})
	}
	return all, nil
}

func validURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == schemeHTTPS || u.Scheme == schemeHTTP) && u.Hostname() != "" && u.User == nil && u.Fragment == ""
}

var errSecret = errors.New("not a secret")

func parseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(secret) < minSecret || len(secret) > maxSecret {
		return nil, errSecret
	}
	return secret, nil
}
