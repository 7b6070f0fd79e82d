package openapi

import "google.golang.org/protobuf/encoding/protowire"

// protobufV2 is a model as an openapi.v2.Document.
func protobufV2(m *model) []byte {
	b := str(nil, 1, "2.0")
	b = message(b, 2, func(b []byte) []byte { return str(str(b, 1, title), 2, release()) })
	b = message(b, 8, func(b []byte) []byte {
		for _, url := range sortedPaths(m) {
			b = entry(b, 2, url, func(b []byte) []byte { return path2(b, m.paths[url]) })
		}
		return b
	})
	b = message(b, 9, func(b []byte) []byte {
		for _, name := range sortedDefinitions(m) {
			b = entry(b, 1, name, func(b []byte) []byte { return schema2(b, m.definitions[name]) })
		}
		return b
	})
	b = message(b, 12, demands)
	return message(b, 13, func(b []byte) []byte {
		return entry(b, 1, securityName, func(b []byte) []byte { // SecurityDefinitionsItem
			return message(b, 2, func(b []byte) []byte { // ApiKeySecurity
				return str(str(str(str(b, 1, "apiKey"), 2, "authorization"), 3, "header"), 4, securityAbout)
			})
		})
	})
}

func path2(b []byte, p *path) []byte {
	for i, name := range methods {
		if op := p.operations[name]; op != nil {
			b = message(b, protowire.Number(2+i), func(b []byte) []byte { return operation2(b, op) })
		}
	}
	for _, q := range p.params {
		b = message(b, 9, func(b []byte) []byte { return param2(b, q) })
	}
	return b
}

func operation2(b []byte, op *operation) []byte {
	b = strs(b, 1, []string{op.tag})
	b = str(b, 3, op.about)
	b = str(b, 5, op.id)
	b = strs(b, 6, op.gives)
	b = strs(b, 7, op.takes)
	if op.body != nil {
		b = message(b, 8, func(b []byte) []byte { // ParametersItem
			return message(b, 1, func(b []byte) []byte { // Parameter
				return message(b, 1, func(b []byte) []byte { // BodyParameter
					b = str(str(b, 2, "body"), 3, "body")
					b = yes(b, 4, op.bodyRequired)
					return message(b, 5, func(b []byte) []byte { return schema2(b, op.body) })
				})
			})
		})
	}
	for _, q := range op.params {
		b = message(b, 8, func(b []byte) []byte { return param2(b, q) })
	}
	b = message(b, 9, func(b []byte) []byte {
		for _, a := range op.answers {
			b = entry(b, 1, a.code, func(b []byte) []byte { // ResponseValue
				return message(b, 1, func(b []byte) []byte { // Response
					b = str(b, 1, a.about)
					if a.body == nil {
						return b
					}
					return message(b, 2, func(b []byte) []byte { // SchemaItem
						return message(b, 1, func(b []byte) []byte { return schema2(b, a.body) })
					})
				})
			})
		}
		return b
	})
	b = strs(b, 10, []string{"https"})
	return operationMarks(b, 13, op)
}

// param2 is a ParametersItem of the query or the path.
func param2(b []byte, p param) []byte {
	where, kind, unique := protowire.Number(3), protowire.Number(6), protowire.Number(20) // QueryParameterSubSchema
	if p.in == "path" {
		where, kind, unique = 4, 5, 19 // PathParameterSubSchema
	}
	return message(b, 1, func(b []byte) []byte { // Parameter
		return message(b, 2, func(b []byte) []byte { // NonBodyParameter
			return message(b, where, func(b []byte) []byte {
				b = yes(b, 1, p.required)
				b = str(str(str(b, 2, p.in), 3, p.about), 4, p.name)
				return yes(str(b, kind, p.kind), unique, true)
			})
		})
	})
}

func schema2(b []byte, s *schemaOf) []byte {
	if s.ref != "" {
		b = str(b, 1, "#/definitions/"+s.ref)
	}
	b = str(b, 2, s.format)
	b = str(b, 4, s.about)
	b = strs(b, 19, s.required)
	for _, v := range s.enum {
		b = anything(b, 20, quoted(v))
	}
	if s.values != nil {
		b = message(b, 21, func(b []byte) []byte { // AdditionalPropertiesItem
			return message(b, 1, func(b []byte) []byte { return schema2(b, s.values) })
		})
	}
	if s.kind != "" {
		b = message(b, 22, func(b []byte) []byte { return str(b, 1, s.kind) })
	}
	if s.items != nil {
		b = message(b, 23, func(b []byte) []byte {
			return message(b, 1, func(b []byte) []byte { return schema2(b, s.items) })
		})
	}
	if len(s.fields) > 0 {
		b = message(b, 25, func(b []byte) []byte {
			for _, f := range s.fields {
				b = entry(b, 1, f.name, func(b []byte) []byte { return schema2(b, f.schemaOf) })
			}
			return b
		})
	}
	for _, m := range s.marks {
		b = extension(b, 31, m.name, m.value)
	}
	return b
}
