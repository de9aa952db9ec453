/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "hop.h"

/*
 * Whether the user's expression holds for *p. The body is a place-holder: user
 * space replaces its instructions before load (bpf.SetMatch), and the assembly
 * keeps the compiler from knowing what it returns. Unreplaced it matches
 * everything.
 */
__attribute__((noinline)) int match(const struct packet *p)
{
	int yes = 1;

	asm volatile("" : "+r"(yes) : "r"(p) : "memory");
	return yes;
}
