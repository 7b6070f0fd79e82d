// Package apps declares the kinds of the group apps, a file each; see resources/core for what a kind's file holds.
package apps
