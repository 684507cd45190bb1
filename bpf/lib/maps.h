/* How the programs reach the maps.  The loader creates and pins every map first and gives their descriptors as
 * FD_NAME, so a new program meets the maps, and the contents, of the one it replaces.
 */

#define MAP(name) ((void *)bpf_pseudo_fd(1, FD_##name))

#define map_get(name, key) bpf_map_lookup_elem(MAP(name), (void *)(key))
#define map_put(name, key, value, flags) bpf_map_update_elem(MAP(name), (void *)(key), (void *)(value), flags)
#define map_delete(name, key) bpf_map_delete_elem(MAP(name), (void *)(key))

/* Programs of this hook, by number.  A jump that succeeds does not come back. */
enum { PROGRAM_MAIN, PROGRAM_ANSWER, PROGRAM_ROOM };

static long (*tail_call)(void *ctx, void *programs, __u32 index) = (void *)BPF_FUNC_tail_call;

#define jump(ctx, program) tail_call(ctx, MAP(programs), program)
