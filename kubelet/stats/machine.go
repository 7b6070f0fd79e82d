package stats

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"pilothouse.dev/kubelet/cgroups"
)

// machineCPU is the processor time that all processes of the machine have used.
func machineCPU() (time.Time, time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("reading processor time: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var ticks uint64
	for i, word := range strings.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 8 { // the name, idle and waiting for the disk; guests are in user time
			continue
		}
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return time.Time{}, 0, fmt.Errorf("reading processor time: %w", err)
		}
		ticks += n
	}
	return time.Now(), time.Duration(ticks) * (time.Second / 100), nil // the kernel shows hundredths on every machine
}

func machineMemory(now time.Time, have map[string]uint64) *statsv1.MemoryStats {
	used := have["MemTotal"] - have["MemFree"]
	return &statsv1.MemoryStats{Time: metav1.NewTime(now), AvailableBytes: new(have["MemAvailable"]), UsageBytes: &used,
		WorkingSetBytes: new(have["MemTotal"] - have["MemAvailable"]), RSSBytes: new(have["AnonPages"]), PSI: psi(cgroups.ReadPressure("/proc/pressure", "memory"))}
}

// Memory is what the machine says of its memory, in bytes by the kernel's names.
func Memory() (map[string]uint64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("reading memory: %w", err)
	}
	have := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		name, rest, _ := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if len(words) == 0 {
			continue
		}
		n, err := strconv.ParseUint(words[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading memory: %w", err)
		}
		have[name] = n * 1024
	}
	return have, nil
}

// self is what this process uses; nil if the kernel does not say.
func self(now time.Time) *statsv1.ContainerStats {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return nil
	}
	// PID (NAME) STATE and 10 more, then user and system time in hundredths, and 8 later the resident pages.
	words := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(words) < 22 {
		return nil
	}
	number := func(i int) uint64 {
		n, err := strconv.ParseUint(string(words[i]), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	cpu, rss := (number(11)+number(12))*uint64(time.Second/100), number(21)*uint64(os.Getpagesize())
	return &statsv1.ContainerStats{Name: statsv1.SystemContainerKubelet,
		CPU:    &statsv1.CPUStats{Time: metav1.NewTime(now), UsageCoreNanoSeconds: &cpu},
		Memory: &statsv1.MemoryStats{Time: metav1.NewTime(now), UsageBytes: new(rss), WorkingSetBytes: new(rss), RSSBytes: new(rss), PageFaults: new(number(7)), MajorPageFaults: new(number(9))}}
}
