package request

import "context"

// OnBegun sets what a watch does once it has told what there was at its start. For the filter that gave it seats for that; ctx comes
// from Begin.
func OnBegun(ctx context.Context, f func()) { scopeOf(ctx).begun = f }

// Begun is what OnBegun set, nil if nothing: to be called once.
func Begun(ctx context.Context) func() {
	if s := scopeOf(ctx); s != nil {
		return s.begun
	}
	return nil
}
