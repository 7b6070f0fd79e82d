// Package lint holds the house rules as tests. It has no code that runs: each
// test is a rule, reads the checkout, and names the rule in what it says.
//
// The order of the rooms, who may import what, and what nobody may import stand
// in layers.txt. What is checked: files that git tracks, and new ones that it
// does not ignore, so a rule is broken before the commit that breaks it.
package lint
