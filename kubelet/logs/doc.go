// Package logs writes what containers print and reads it again.
//
// containers gets OpenWriter through main; the kubelet's server calls Read. A file holds CRI lines, «2006-01-02T15:04:05.999999999Z07:00 stdout
// F text», where P instead of F marks a piece of a line that goes on in the next entry of that stream. When a file is full it is renamed to FILE.1, FILE.1 to
// FILE.2 and so on; Read reads them as one.
//
// What always holds: an entry is written by one write call, so a reader never sees an entry torn by another stream; a follower loses no line to a
// rotation as long as the file it reads is not rotated out of existence.
package logs
