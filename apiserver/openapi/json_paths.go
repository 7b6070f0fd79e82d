package openapi

func (w *jsonWriter) path(url string, p *path) {
	w.open(url)
	// The names of methods and the others, in the order of the alphabet.
	for _, name := range []string{"delete", "get", "head", "options", "parameters", "patch", "post", "put"} {
		if name == "parameters" {
			w.params(p.params, nil)
			continue
		}
		if op := p.operations[name]; op != nil {
			w.operation(name, op)
		}
	}
	w.byte('}')
}

func (w *jsonWriter) operation(method string, op *operation) {
	w.open(method)
	if !w.v3 {
		w.texts("consumes", op.takes)
	}
	w.member("description", op.about)
	w.member("operationId", op.id)
	if w.v3 {
		w.params(op.params, nil)
	} else {
		w.params(op.params, op)
		w.texts("produces", op.gives)
	}
	if w.v3 && op.body != nil {
		w.open("requestBody")
		w.content(op.takes, op.body)
		if op.bodyRequired {
			w.raw("required", "true")
		}
		w.byte('}')
	}
	w.open("responses")
	for _, a := range op.answers {
		w.open(a.code)
		if w.v3 && a.body != nil {
			w.content(op.gives, a.body)
		}
		w.member("description", a.about)
		if !w.v3 && a.body != nil {
			w.key("schema")
			w.schema(a.body)
		}
		w.byte('}')
	}
	w.byte('}')
	if !w.v3 {
		w.raw("schemes", `["https"]`)
	}
	w.raw("tags", `[`+quoted(op.tag)+`]`)
	if op.action != "" {
		w.member(actionExtension, op.action)
	}
	if op.kind != nil {
		w.raw(gvkExtension, asJSONText(kindName{op.kind.Group, op.kind.Kind, op.kind.Version}))
	}
	w.byte('}')
}

// content is a body in each of its forms.
func (w *jsonWriter) content(media []string, body *schemaOf) {
	w.open("content")
	for _, m := range media {
		w.open(m)
		w.key("schema")
		w.schema(body)
		w.byte('}')
	}
	w.byte('}')
}

// params writes parameters; in v2 the body of an operation is one of them.
func (w *jsonWriter) params(params []param, of *operation) {
	if len(params) == 0 && (of == nil || of.body == nil) {
		return
	}
	w.key("parameters")
	w.byte('[')
	if of != nil && of.body != nil {
		w.next()
		w.byte('{')
		w.member("in", "body")
		w.member("name", "body")
		if of.bodyRequired {
			w.raw("required", "true")
		}
		w.key("schema")
		w.schema(of.body)
		w.byte('}')
	}
	for _, p := range params {
		w.next()
		w.byte('{')
		w.member("description", p.about)
		w.member("in", p.in)
		w.member("name", p.name)
		if p.required {
			w.raw("required", "true")
		}
		if w.v3 {
			w.open("schema")
		}
		w.member("type", p.kind)
		w.raw("uniqueItems", "true")
		if w.v3 {
			w.byte('}')
		}
		w.byte('}')
	}
	w.byte(']')
}
