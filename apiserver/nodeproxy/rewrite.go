package nodeproxy

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// links makes what a target says about itself lead through this server.
type links struct {
	prefix string // the path under which the target is seen, escaped
	target string // the target's host
	self   string // ours, as the client knows it
}

// rewrite changes the answer's redirect or, when it is a page, the page.
func (l links) rewrite(resp *http.Response) error {
	if location := resp.Header.Get("Location"); location != "" {
		resp.Header.Set("Location", l.link(location))
		return nil
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || media != "text/html" || resp.Body == nil || resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols ||
		resp.Request != nil && resp.Request.Method == http.MethodHead {
		return nil
	}
	p := &page{links: l, body: resp.Body}
	switch resp.Header.Get("Content-Encoding") {
	case "":
		p.tokens, p.out = html.NewTokenizer(resp.Body), &p.ready
	case "gzip":
		plain, err := gzip.NewReader(resp.Body)
		if err != nil {
			return fmt.Errorf("reading a compressed page: %w", err)
		}
		zip := gzip.NewWriter(&p.ready)
		p.tokens, p.out, p.end = html.NewTokenizer(plain), zip, zip.Close
	default:
		return nil // it is passed on as it is
	}
	resp.Body = p
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
	return nil
}

// link makes one reference lead through this server: what is relative does so already, what is of other hosts should not.
func (l links) link(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" {
		return text
	}
	if u.Host != "" && u.Host != l.target && u.Host != l.self || !strings.HasPrefix(u.Path, "/") {
		return text
	}
	u.Scheme, u.Host, u.User = "", "", nil
	escaped := u.EscapedPath()
	if escaped != l.prefix && !strings.HasPrefix(escaped, l.prefix+"/") {
		escaped = l.prefix + escaped
	}
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return text
	}
	u.Path, u.RawPath = path, escaped
	return u.String()
}

// references are the attributes that hold one reference
// (https://html.spec.whatwg.org/multipage/indices.html#attributes-3, those whose value is a URL).
var references = map[string][]string{
	"a": {"href"}, "area": {"href"}, "audio": {"src"}, "base": {"href"}, "blockquote": {"cite"}, "body": {"background"},
	"button": {"formaction"}, "del": {"cite"}, "embed": {"src"}, "form": {"action"}, "frame": {"src", "longdesc"},
	"iframe": {"src", "longdesc"}, "img": {"src", "longdesc", "usemap"}, "input": {"src", "formaction", "usemap"}, "ins": {"cite"},
	"link": {"href"}, "object": {"data", "codebase", "usemap"}, "q": {"cite"}, "script": {"src"}, "source": {"src"},
	"track": {"src"}, "video": {"src", "poster"},
}

// page is an HTML page whose references are changed while it is read.
type page struct {
	links
	body   io.ReadCloser
	tokens *html.Tokenizer
	out    io.Writer    // into ready, perhaps through a compressor
	end    func() error // of out; may be nil
	ready  bytes.Buffer
	failed error
}

func (p *page) Close() error { return p.body.Close() }

func (p *page) Read(b []byte) (int, error) {
	for p.ready.Len() == 0 {
		if p.failed != nil {
			return 0, p.failed
		}
		p.failed = p.next()
	}
	return p.ready.Read(b)
}

// next moves one piece of the page to ready. io.EOF is the page's end.
func (p *page) next() error {
	kind := p.tokens.Next()
	if kind == html.ErrorToken {
		err := p.tokens.Err()
		if errors.Is(err, io.EOF) && p.end != nil {
			if err := p.end(); err != nil {
				return err
			}
		}
		return err
	}
	raw := p.tokens.Raw()
	if kind != html.StartTagToken && kind != html.SelfClosingTagToken {
		_, err := p.out.Write(raw)
		return err
	}
	raw = bytes.Clone(raw) // reading the attributes changes it
	tag := p.tokens.Token()
	changed := false
	for i := range tag.Attr {
		a := &tag.Attr[i]
		for _, name := range references[tag.Data] {
			if a.Key == name && a.Namespace == "" {
				if to := p.link(a.Val); to != a.Val {
					a.Val, changed = to, true
				}
			}
		}
	}
	if changed {
		raw = []byte(tag.String())
	}
	_, err := p.out.Write(raw)
	return err
}
