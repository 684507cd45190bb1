/* The inner loop of maglev.py, which does the same where this is not compiled.  deploy/setup makes libmaglev.so of it. */
#include <stdint.h>

/* Each backend in its turn takes the next free slot of its own permutation, `at`, `at` + `step` … modulo `size`.
 * Backends of one group, which ends before `ends`, take `slots` each: a turn every round for those with the most, and for the others
 * as often as their credit allows.  Groups come by slots, the most first.  `at` and `credit` are written; `table` comes as zeros.
 */
void maglev_fill(uint32_t *at, const uint32_t *step, const uint32_t *ids, const uint32_t *ends, const uint32_t *slots,
		 uint32_t *credit, uint32_t groups, uint32_t size, uint32_t *table)
{
	for (uint32_t taken = 0; taken < size;) {
		for (uint32_t group = 0, i = 0; group < groups; i = ends[group++]) {
			credit[group] += slots[group];
			if (credit[group] < slots[0])
				continue;
			credit[group] -= slots[0];
			for (; i < ends[group]; i++, taken++) {
				while (table[at[i]]) {
					at[i] += step[i];
					if (at[i] >= size)
						at[i] -= size;
				}
				table[at[i]] = ids[i];
			}
		}
	}
}
