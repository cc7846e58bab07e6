/* Finds the candidates of a JSON request and their rows in a memo. Pure C: no Python, no I/O.
 *
 * Guarantees:
 * 1. No function reads or writes outside the buffers that its arguments name, whatever the document contains.
 * 2. A slot in the result of `index_cut` is that of a row whose bytes equal the candidate's JSON.
 * 3. A document whose form is in any doubt is refused (`CUT_REFUSED`); the caller then parses it itself.
 */
#ifndef CTR_STREAMER_INDEX_H
#define CTR_STREAMER_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define NO_SLOT UINT32_MAX
#define CUT_REFUSED (-1)
#define CUT_NO_MEMORY (-2)

typedef struct {
    uint64_t hash;
    const uint8_t *bytes; /* NULL: the slot is free */
    size_t size;
} Row;

typedef struct {
    uint32_t capacity;
    Row *rows;         /* by slot */
    uint64_t mask;     /* size of `table` and of `guesses`, minus 1 */
    uint32_t *table;   /* open addressing, linear probing: slot or NO_SLOT */
    uint32_t *guesses; /* by the hash of a row's first bytes: the newest such row's slot or NO_SLOT */
    uint64_t seed;
} Index;

typedef struct {
    size_t start, end; /* of a candidate in the document */
    uint32_t slot;     /* or NO_SLOT */
} Candidate;

typedef struct {
    size_t open, close; /* the array: from its bracket to behind its other bracket */
    size_t size, room;
    Candidate *candidates; /* the caller frees it */
} Cut;

/* 0, or -1 without memory. `index_free` frees an index whose initialisation failed, too. */
int index_init(Index *index, uint32_t capacity, uint64_t seed);
void index_free(Index *index);

/* Whether `bytes` is one JSON object as far as its brackets and strings tell, so that it can be put. */
int is_object(const uint8_t *bytes, size_t size);

/* Puts a row, a valid JSON object, in a free slot. `bytes` must live until `index_remove`. */
void index_put(Index *index, uint32_t slot, const uint8_t *bytes, size_t size);
void index_remove(Index *index, uint32_t slot);

/* Finds the list of objects under the top-level `key`. The number of candidates, at most `limit`, or CUT_... */
long index_cut(const Index *index, const uint8_t *key, size_t key_size, const uint8_t *document, size_t size,
               size_t limit, Cut *cut);

/* Copies the ids and floats of n memoised rows, and joins their words with the request's: the formula of `join` in
 * hashing.py. A row has `pairs` words that become pair ids, and then two that become its key. */
typedef struct {
    size_t ids, floats, pairs; /* values of a row */
    const int32_t *memo_ids;
    const float *memo_floats;
    const uint64_t *memo_words, *words, *modulus;
    const int32_t *base;
    int is_padded;
    int32_t *out_ids, *out_pairs;
    float *out_floats;
    uint64_t *out_keys, *out_ad_keys;
} Gather;
void gather_rows(const Gather *g, const uint32_t *slots, size_t n);

#endif
