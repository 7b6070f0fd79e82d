// Package core declares the kinds of the core group (/api/v1), a file each: identity, defaults, validation, preparation,
// selectable fields and columns. Everything here is a pure function of objects; the write path in handlers calls it, and what
// needs to look something up (does the namespace exist, which address is free) stands in admission/plugins instead.
package core
