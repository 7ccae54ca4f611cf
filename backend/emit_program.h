/* emit_program.h - everything a program consists of, into one LLVM module. */
#pragma once
#include "backend/backend.h"
#include "backend/ll.h"

_Static_assert((int)TARGET_COUNT == (int)LRT_TIER_COUNT, "targets.def and enum LrtTier list the same tiers");

void emit_program(Emit *e, const Schedule *schedule, const BackendOptions *options);
