package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// dialed is what a server says of the calls that it was asked to make.
type dialed struct {
	Answers []string `json:"answers"`
	Errors  []string `json:"errors"`
}

// dial has this server call others: each url (see call), tries times in all, one after the other, and tell what it heard. So tests see the
// network from where the server is.
func (s *server) dial(w http.ResponseWriter, r *http.Request) {
	o := options{text: r.FormValue("text"), timeout: 2 * time.Second}
	tries := 1
	var err error
	if t := r.FormValue("timeout"); t != "" {
		o.timeout, err = time.ParseDuration(t)
	}
	if t := r.FormValue("tries"); t != "" && err == nil {
		tries, err = strconv.Atoi(t)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	heard := dialed{Answers: []string{}, Errors: []string{}}
	for range tries {
		for _, url := range r.Form["url"] {
			answer, err := call(r.Context(), url, o)
			if err != nil {
				heard.Errors = append(heard.Errors, fmt.Sprintf("%s: %v", url, err))
			} else {
				heard.Answers = append(heard.Answers, strings.TrimSpace(answer))
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(heard); err != nil {
		fmt.Fprintln(os.Stderr, "answering:", err)
	}
}
