package containers

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"testing"
)

// The program is read back as an executable; pause_test.go runs it.
func TestPauseProgram(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program, err := pauseProgram(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(program))
		if err != nil || f.Machine != machine || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
			t.Fatalf("%s: %+v, %v", arch, f, err)
		}
		if p := f.Progs[0]; p.Filesz != uint64(len(program)) || f.Entry != p.Vaddr+elfHeader+elfSegment {
			t.Errorf("%s: %+v of %d bytes, begins at %x", arch, p, len(program), f.Entry)
		}
		act := program[len(program)-32:]
		if binary.LittleEndian.Uint64(act) != sigIgn || binary.LittleEndian.Uint64(act[8:]) != saNoCldWait {
			t.Errorf("%s: the action is %x", arch, act)
		}
	}
	if _, err := pauseProgram("riscv64"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("another processor: %v", err)
	}
	// As the assembler of Go writes them.
	arm := pauseARM64(0x400000 + 0x1234)
	for i, want := range []uint32{0xd2800220, 0xd2824681, 0xf2a00801, 0xd2800002, 0xd2800103, 0xd28010c8, 0xd4000001, 0xd2800000} {
		if got := binary.LittleEndian.Uint32(arm[4*i:]); got != want {
			t.Errorf("arm64, instruction %d: %x, want %x", i, got, want)
		}
	}
	if got := binary.LittleEndian.Uint32(arm[len(arm)-4:]); got != 0x17fffff9 {
		t.Errorf("arm64, the jump: %x", got)
	}
}
