package markers

import "strings"

// parse reads the table. Lines are of four kinds:
//
//	# a comment
//	package k8s.io/api/core/v1
//	Container WORD…            a type of that package
//	<tab>ports WORD…           a field of that type, by its JSON name
//
// A word is list=TYPE, list=map:KEY,KEY, map=TYPE, struct=TYPE, optional, required, or, as the last one and reaching to the end
// of the line, default=JSON (of a field) or enum=VALUE,VALUE (of a type). What is kept are pieces of the text itself. A word
// that is none of these is a fault of the generator; a test reads them all.
func parse(text string) map[string]*Type {
	out := map[string]*Type{}
	var pkg string
	var t *Type
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "package "):
			pkg = line[len("package "):] + "."
		case strings.HasPrefix(line, "\t"):
			name, words, _ := strings.Cut(line[1:], " ")
			if t.Fields == nil {
				t.Fields = map[string]Field{}
			}
			t.Fields[name] = field(words)
		default:
			name, words, _ := strings.Cut(line, " ")
			t = &Type{}
			out[pkg+name] = t
			words, values, ok := strings.Cut(words, "enum=")
			if ok {
				t.Enum = strings.Split(values, ",")
			}
			f := field(words)
			t.ListType, t.ListKeys, t.MapType, t.StructType = f.ListType, f.ListKeys, f.MapType, f.StructType
		}
	}
	return out
}

func field(words string) Field {
	var f Field
	for words != "" {
		var word string
		if strings.HasPrefix(words, "default=") {
			word, words = words, ""
		} else {
			word, words, _ = strings.Cut(words, " ")
		}
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "list":
			kind, keys, _ := strings.Cut(value, ":")
			f.ListType = kind
			if keys != "" {
				f.ListKeys = strings.Split(keys, ",")
			}
		case "map":
			f.MapType = value
		case "struct":
			f.StructType = value
		case "default":
			f.Default = value
		case "optional":
			f.Optional = true
		case "required":
			f.Required = true
		}
	}
	return f
}
