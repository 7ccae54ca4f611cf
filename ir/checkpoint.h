/* checkpoint.h - what the compiler asks of a checkpoint.  `runtime/` reads the files; the driver hands this interface over. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef enum ConfigKind {
    CONFIG_ABSENT, CONFIG_NULL, CONFIG_BOOL, CONFIG_INT, CONFIG_REAL, CONFIG_STRING, CONFIG_LIST, CONFIG_OBJECT
} ConfigKind;

typedef struct ConfigValue {
    ConfigKind kind;
    bool boolean;
    int64_t integer;
    double real;         /* also set for integers */
    const char *string;
    int length;          /* CONFIG_LIST: number of elements; ask for "key.0", "key.1", ... */
} ConfigValue;

typedef struct CheckpointTensor {
    const char *name;
    int rank;
    int64_t shape[6];
} CheckpointTensor;

/* All functions may be NULL-safe called only when `user` is set; a compilation without a checkpoint passes NULL for the struct. */
typedef struct Checkpoint {
    void *user;
    const char *path; /* for messages */
    /* Value of a config key; nested keys are joined by dots: "rope_parameters.rope_theta". */
    ConfigValue (*config)(void *user, const char *key);
    /* false: no such tensor.  `tensors_known` is false when only a config was given: then every tensor is taken to exist. */
    bool (*tensor)(void *user, const char *name, CheckpointTensor *tensor);
    bool tensors_known;
} Checkpoint;
