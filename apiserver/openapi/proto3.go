package openapi

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// protobufV3 is a model as an openapi.v3.Document.
func protobufV3(m *model) []byte {
	b := str(nil, 1, "3.0.0")
	b = message(b, 2, func(b []byte) []byte { return str(str(b, 1, title), 6, release()) })
	b = message(b, 4, func(b []byte) []byte {
		for _, url := range sortedPaths(m) {
			b = entry(b, 1, url, func(b []byte) []byte { return path3(b, m.paths[url]) })
		}
		return b
	})
	b = message(b, 5, func(b []byte) []byte { // Components
		b = message(b, 1, func(b []byte) []byte {
			for _, name := range sortedDefinitions(m) {
				b = entry(b, 1, name, func(b []byte) []byte { return schema3(b, m.definitions[name]) })
			}
			return b
		})
		return message(b, 7, func(b []byte) []byte {
			return entry(b, 1, securityName, func(b []byte) []byte { // SecuritySchemeOrReference
				return message(b, 1, func(b []byte) []byte {
					return str(str(str(str(b, 1, "apiKey"), 2, securityAbout), 3, "authorization"), 4, "header")
				})
			})
		})
	})
	return message(b, 6, demands)
}

func path3(b []byte, p *path) []byte {
	for i, name := range methods {
		if op := p.operations[name]; op != nil {
			b = message(b, protowire.Number(4+i), func(b []byte) []byte { return operation3(b, op) })
		}
	}
	for _, q := range p.params {
		b = message(b, 13, func(b []byte) []byte { return param3(b, q) })
	}
	return b
}

func operation3(b []byte, op *operation) []byte {
	b = strs(b, 1, []string{op.tag})
	b = str(b, 3, op.about)
	b = str(b, 5, op.id)
	for _, q := range op.params {
		b = message(b, 6, func(b []byte) []byte { return param3(b, q) })
	}
	if op.body != nil {
		b = message(b, 7, func(b []byte) []byte { // RequestBodyOrReference
			return message(b, 1, func(b []byte) []byte {
				return yes(content3(b, 2, op.takes, op.body), 3, op.bodyRequired)
			})
		})
	}
	b = message(b, 8, func(b []byte) []byte {
		for _, a := range op.answers {
			b = entry(b, 2, a.code, func(b []byte) []byte { // ResponseOrReference
				return message(b, 1, func(b []byte) []byte {
					b = str(b, 1, a.about)
					if a.body != nil {
						b = content3(b, 3, op.gives, a.body)
					}
					return b
				})
			})
		}
		return b
	})
	return operationMarks(b, 13, op)
}

// content3 is MediaTypes: a body in each of its forms.
func content3(b []byte, number protowire.Number, media []string, body *schemaOf) []byte {
	return message(b, number, func(b []byte) []byte {
		for _, m := range media {
			b = entry(b, 1, m, func(b []byte) []byte {
				return message(b, 1, func(b []byte) []byte { return schema3(b, body) })
			})
		}
		return b
	})
}

// param3 is a ParameterOrReference.
func param3(b []byte, p param) []byte {
	return message(b, 1, func(b []byte) []byte {
		b = yes(str(str(str(b, 1, p.name), 2, p.in), 3, p.about), 4, p.required)
		return message(b, 10, func(b []byte) []byte { // SchemaOrReference
			return message(b, 1, func(b []byte) []byte { return str(yes(b, 20, true), 25, p.kind) })
		})
	})
}

// schema3 is a SchemaOrReference.
func schema3(b []byte, s *schemaOf) []byte {
	reference := func(b []byte) []byte { // also a SchemaOrReference
		return message(b, 2, func(b []byte) []byte { return str(b, 1, "#/components/schemas/"+s.ref) })
	}
	if s.ref != "" && s.about == "" && s.preset == "" && len(s.marks) == 0 {
		return reference(b)
	}
	return message(b, 1, func(b []byte) []byte {
		b = strs(b, 23, s.required)
		for _, v := range s.enum {
			b = anything(b, 24, quoted(v))
		}
		if len(s.either) == 0 {
			b = str(b, 25, s.kind)
		}
		if s.ref != "" {
			b = message(b, 26, reference)
		}
		for _, kind := range s.either {
			b = message(b, 27, func(b []byte) []byte {
				return message(b, 1, func(b []byte) []byte { return str(b, 25, kind) })
			})
		}
		if s.items != nil {
			b = message(b, 30, func(b []byte) []byte {
				return message(b, 1, func(b []byte) []byte { return schema3(b, s.items) })
			})
		}
		if len(s.fields) > 0 {
			b = message(b, 31, func(b []byte) []byte {
				for _, f := range s.fields {
					b = entry(b, 1, f.name, func(b []byte) []byte { return schema3(b, f.schemaOf) })
				}
				return b
			})
		}
		if s.values != nil {
			b = message(b, 32, func(b []byte) []byte { // AdditionalPropertiesItem
				return message(b, 1, func(b []byte) []byte { return schema3(b, s.values) })
			})
		}
		b = default3(b, s.preset)
		b = str(b, 34, s.about)
		b = str(b, 35, s.format)
		for _, m := range s.marks {
			b = extension(b, 36, m.name, m.value)
		}
		return b
	})
}

// default3 is a DefaultType, which knows numbers, truth and texts; of any other value it says only that there is one.
func default3(b []byte, preset string) []byte {
	if preset == "" {
		return b
	}
	return message(b, 33, func(b []byte) []byte {
		switch c := preset[0]; {
		case c == 't' || c == 'f':
			return protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), protowire.EncodeBool(c == 't'))
		case c == '"':
			text, err := strconv.Unquote(preset)
			if err != nil {
				return b
			}
			return protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), text)
		case c == '-' || c >= '0' && c <= '9':
			n, err := strconv.ParseFloat(preset, 64)
			if err != nil {
				return b
			}
			return protowire.AppendFixed64(protowire.AppendTag(b, 1, protowire.Fixed64Type), math.Float64bits(n))
		}
		return b
	})
}
