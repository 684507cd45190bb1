/* The inner loop of maglev.py, which does the same where this is not compiled.  deploy/setup makes libmaglev.so of it. */
#include <stdint.h>

/* Each backend in turn takes the next free slot of its own permutation, `at`, `at` + `step` … modulo `size`.
 * `at` is written; `table` comes as zeros; no id is 0.
 */
void maglev(uint32_t *at, const uint32_t *step, const uint32_t *ids, uint32_t count, uint32_t size, uint32_t *table)
{
	for (uint32_t taken = 0, i = 0; taken < size; taken++, i = i + 1 == count ? 0 : i + 1) {
		while (table[at[i]]) {
			at[i] += step[i];
			if (at[i] >= size)
				at[i] -= size;
		}
		table[at[i]] = ids[i];
	}
}
