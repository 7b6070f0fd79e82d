package openapi

const definitions = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1."

// uncommented describes types and fields of which their source says nothing. Those of JSONSchemaProps are keywords of JSON Schema
// (https://json-schema.org/draft-04), of which custom resource definitions know a part.
var uncommented = map[string]map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.GroupResource": {
		"":         "GroupResource names a resource, whatever its version.",
		"group":    "group is the API group of the resource; empty for the core group.",
		"resource": "resource is the plural name of the resource, as in paths.",
	},
	definitions + "CustomResourceSubresourceStatus": {
		"": "CustomResourceSubresourceStatus is empty: its presence turns the status subresource on.",
	},
	definitions + "ExternalDocumentation": {
		"description": "description says in short what the documentation is about.",
		"url":         "url is where the documentation is.",
	},
	definitions + "JSONSchemaProps": {
		"$ref":              "$ref refers to another schema. Must not be set in a custom resource definition.",
		"$schema":           "$schema is the URL of the version of JSON Schema in which this one is written.",
		"definitions":       "definitions are schemas to be referred to. Must not be set in a custom resource definition.",
		"dependencies":      "dependencies tells of properties what else must be there if they are. Must not be set in a custom resource definition.",
		"description":       "description says what the value is for; kubectl explain prints it.",
		"exclusiveMaximum":  "exclusiveMaximum says that a number must be less than maximum, not equal to it.",
		"exclusiveMinimum":  "exclusiveMinimum says that a number must be greater than minimum, not equal to it.",
		"id":                "id names the schema. Must not be set in a custom resource definition.",
		"maxItems":          "maxItems is the most items a list may have.",
		"maxLength":         "maxLength is the most characters a text may have.",
		"maxProperties":     "maxProperties is the most properties an object may have.",
		"maximum":           "maximum is the greatest number allowed.",
		"minItems":          "minItems is the fewest items a list may have.",
		"minLength":         "minLength is the fewest characters a text may have.",
		"minProperties":     "minProperties is the fewest properties an object may have.",
		"minimum":           "minimum is the least number allowed.",
		"multipleOf":        "multipleOf is a number of which every allowed number is a multiple.",
		"nullable":          "nullable says that null is allowed as a value.",
		"pattern":           "pattern is a regular expression that a text must match.",
		"patternProperties": "patternProperties are the schemas of properties whose names match a pattern. Must not be set in a custom resource definition.",
		"properties":        "properties are the schemas of an object's properties, by their names.",
		"required":          "required are the properties that an object must have.",
		"title":             "title is a short name for people.",
		"type":              "type is the type of the value: string, number, integer, boolean, array or object.",
		"uniqueItems":       "uniqueItems says that a list must not hold an item twice. Must not be true in a custom resource definition.",
	},
}
