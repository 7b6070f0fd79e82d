package containers

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The program that waits is written here instruction by instruction: a compiled one, of whatever language, brings a run time that takes more
// memory than most pods have use for. It says to the kernel that it does not care for its children, which has the kernel reap them at once, and
// then waits for ever. Signals cannot end it: of the first process of a PID namespace the kernel drops all that have no handler, but for KILL from
// outside.
//
//	act.handler, act.flags = SIG_IGN, SA_NOCLDWAIT
//	rt_sigaction(SIGCHLD, &act, nil, 8)
//	for { pause() }
const (
	imageBase   = 0x400000 // where the whole file is mapped
	elfHeader   = 64
	elfSegment  = 56
	sigchld     = 17
	sigIgn      = 1
	saNoCldWait = 2
)

// pauseProgram is the executable for a processor, ErrUnsupported for one that nobody has written it for.
func pauseProgram(arch string) ([]byte, error) {
	var machine uint16
	var code func(act uint32) []byte
	switch arch {
	case "amd64":
		machine, code = 62, pauseAMD64
	case "arm64":
		machine, code = 183, pauseARM64
	default:
		return nil, fmt.Errorf("a shared process namespace on %s: %w", arch, ErrUnsupported)
	}
	// The code's length does not depend on where the data is, so it is made twice.
	start := imageBase + elfHeader + elfSegment
	act := uint32(start + (len(code(0))+7)/8*8)
	text := code(act)
	text = append(text, make([]byte, int(act)-start-len(text))...)
	for _, field := range []uint64{sigIgn, saNoCldWait, 0, 0} { // handler, flags, restorer, mask
		text = binary.LittleEndian.AppendUint64(text, field)
	}
	return slices.Concat(elfHead(machine, uint64(start), uint64(len(text))), text), nil
}

// elfHead is the header of a static executable of one segment: https://refspecs.linuxfoundation.org/elf/elf.pdf.
func elfHead(machine uint16, entry, textSize uint64) []byte {
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0} // 64 bits, little endian, version 1
	b = le.AppendUint16(b, 2)                                            // executable
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, entry)
	b = le.AppendUint64(b, elfHeader) // where the segments are told
	b = le.AppendUint64(b, 0)         // no sections
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{elfHeader, elfSegment, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // load
	b = le.AppendUint32(b, 5) // read, execute
	size := elfHeader + elfSegment + textSize
	for _, v := range []uint64{0, imageBase, imageBase, size, size, 0x10000} { // offset, address, address, size in file and memory, alignment
		b = le.AppendUint64(b, v)
	}
	return b
}

func pauseAMD64(act uint32) []byte {
	le := binary.LittleEndian
	b := []byte{0xb8, 13, 0, 0, 0}            // mov eax, rt_sigaction
	b = append(b, 0xbf, sigchld, 0, 0, 0)     // mov edi, SIGCHLD
	b = le.AppendUint32(append(b, 0xbe), act) // mov esi, act
	b = append(b, 0x31, 0xd2)                 // xor edx, edx
	b = append(b, 0x41, 0xba, 8, 0, 0, 0)     // mov r10d, 8
	b = append(b, 0x0f, 0x05)                 // syscall
	b = append(b, 0xb8, 34, 0, 0, 0)          // again: mov eax, pause
	b = append(b, 0x0f, 0x05)                 // syscall
	return append(b, 0xeb, 0xf7)              // jmp again
}

func pauseARM64(act uint32) []byte {
	movz := func(reg, value uint32) uint32 { return 0xd2800000 | value<<5 | reg }
	movkHigh := func(reg, value uint32) uint32 { return 0xf2a00000 | value<<5 | reg }
	const svc = 0xd4000001
	var b []byte
	for _, word := range []uint32{
		movz(0, sigchld),
		movz(1, act&0xffff), movkHigh(1, act>>16),
		movz(2, 0),
		movz(3, 8),
		movz(8, 134), svc, // rt_sigaction
		movz(0, 0), movz(1, 0), movz(2, 0), movz(3, 0), movz(4, 0), // again:
		movz(8, 73), svc, // ppoll of nothing, without a limit: there is no pause
		0x14000000 | (-7 & 0x3ffffff), // b again
	} {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return b
}
