/* dataset.h - what the readers of training data share. */
#pragma once
#include "runtime/data.h"

typedef struct LrtPlace {
    int64_t start;
    int32_t length, targets;
} LrtPlace;

/* All documents lie in one array of tokens and one of targets, or of types; a table says where each begins. */
struct LrtDataset {
    const LrtTokenizer *tokenizer;
    LrtDataOptions options;
    LrtDataCounts counts;
    LrtIds tokens, targets, types;
    LrtPlace *places;
    size_t count, capacity;
    bool labelled, values; /* values: labels are real numbers */
    LrtIds classes;        /* labelled: of each document; values: the bits of a float */
    LrtLabels *labels;     /* while reading */
    LrtEncoded encoded;    /* room for one row */
};

LrtDataset *lrt_dataset_new(const LrtTokenizer *tokenizer, LrtError *error);
/* A document whose tokens have been appended. */
bool lrt_dataset_add(LrtDataset *dataset, LrtPlace place, LrtError *error);
