package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func secretOf(bytes int) string {
	return secretPrefix + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", bytes)))
}

func TestReceivers(t *testing.T) {
	t.Parallel()
	secret := secretOf(24)
	var twentyOne, secrets []string
	for i := range MaxReceivers + 1 {
		name := fmt.Sprint("r", i)
		twentyOne, secrets = append(twentyOne, name+"=https://a.example/"), append(secrets, name+"="+secret)
	}
	for name, tc := range map[string]struct {
		receivers, secrets []string
		want               error
	}{
		"none":                     {nil, nil, nil},
		"one":                      {[]string{"crm=https://crm.example/hooks?a=b"}, []string{"crm=" + secret}, nil},
		"two secrets":              {[]string{"crm=https://crm.example/"}, []string{"crm=" + secret, "crm=" + secretOf(64)}, nil},
		"in its own network":       {[]string{"crm=http://crm:8080/"}, []string{"crm=" + secret}, nil},
		"twenty":                   {twentyOne[:20], secrets[:20], nil},
		"twenty-one":               {twentyOne, secrets, ErrReceivers},
		"one name twice":           {[]string{"a=https://a.example/", "a=https://b.example/"}, []string{"a=" + secret}, ErrReceivers},
		"no name":                  {[]string{"https://a.example/"}, nil, ErrReceivers},
		"an empty name":            {[]string{"=https://a.example/"}, nil, ErrReceivers},
		"a name of capitals":       {[]string{"CRM=https://a.example/"}, nil, ErrReceivers},
		"a name that is too long":  {[]string{strings.Repeat("a", 31) + "=https://a.example/"}, nil, ErrReceivers},
		"no URL":                   {[]string{"a"}, nil, ErrReceivers},
		"no host":                  {[]string{"a=https:///hooks"}, nil, ErrReceivers},
		"another scheme":           {[]string{"a=file:///etc/passwd"}, nil, ErrReceivers},
		"a user":                   {[]string{"a=https://user:password@a.example/"}, nil, ErrReceivers},
		"a fragment":               {[]string{"a=https://a.example/#b"}, nil, ErrReceivers},
		"no secret":                {[]string{"a=https://a.example/"}, nil, ErrSecrets},
		"three secrets":            {[]string{"a=https://a.example/"}, []string{"a=" + secret, "a=" + secret, "a=" + secret}, ErrSecrets},
		"a secret of another":      {[]string{"a=https://a.example/"}, []string{"a=" + secret, "b=" + secret}, ErrSecrets},
		"a secret that is short":   {[]string{"a=https://a.example/"}, []string{"a=" + secretOf(23)}, ErrSecrets},
		"a secret that is long":    {[]string{"a=https://a.example/"}, []string{"a=" + secretOf(65)}, ErrSecrets},
		"a secret without whsec_":  {[]string{"a=https://a.example/"}, []string{"a=" + strings.TrimPrefix(secret, secretPrefix)}, ErrSecrets},
		"a secret that is no code": {[]string{"a=https://a.example/"}, []string{"a=whsec_+++"}, ErrSecrets},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Receivers(tc.receivers, tc.secrets)
			if !errors.Is(err, tc.want) || (err == nil && len(got) != len(tc.receivers)) {
				t.Errorf("Receivers() = %d, %v, want %v", len(got), err, tc.want)
			}
		})
	}
	got, err := Receivers([]string{"a=https://a.example/?x=y", "b=http://b/"}, []string{"b=" + secretOf(24), "a=" + secretOf(32), "b=" + secretOf(64)})
	if err != nil || got[0].URL != "https://a.example/?x=y" || len(got[0].Secrets[0]) != 32 || len(got[1].Secrets) != 2 || len(got[1].Secrets[1]) != 64 {
		t.Errorf("Receivers() = %+v, %v", got, err)
	}
}
