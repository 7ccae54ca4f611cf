/* schedule_build.h - the three steps behind schedule_graph, private to passes/. */
#pragma once
#include "ir/schedule.h"

void layout(Schedule *schedule, Arena *arena);
/* false after reporting a value that no kernel can compute. */
bool fuse(Schedule *schedule, AttentionWork *attention_work, Arena *arena, Diag *diag);
void plan(Schedule *schedule, Arena *arena);

/* Skips views that do not move data: the node whose memory `node` is. */
const Node *node_origin(const Node *node);
