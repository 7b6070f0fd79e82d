// Package batch declares the kinds of the group batch, a file each and, for jobs, one for each part of their checks.
package batch
