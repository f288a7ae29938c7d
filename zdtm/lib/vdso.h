/*
 * The functions of the vDSO, by its own symbol table: see vdso(7). Who includes this has check() and strcmp(): that of
 * zdtmtst.h, or one's own where there is no libc.
 */
#ifndef VDSO_H
#define VDSO_H

#include <elf.h>
#include <stddef.h>
#include <time.h>

#ifdef __aarch64__
#define VDSO_PREFIX "__kernel_"
#else
#define VDSO_PREFIX "__vdso_"
#endif

/* The address of a function of the vDSO that is mapped at `base`; NULL if it has none of that name. */
static inline void *vdso_function(const char *base, const char *name)
{
	const Elf64_Ehdr *header = (const void *)base;
	const Elf64_Phdr *segment = (const void *)(base + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	const Elf64_Sym *symbols = NULL;
	const char *names = NULL;
	const Elf64_Word *hash = NULL;
	unsigned long bias = 0;

	for (int i = 0; i < header->e_phnum; i++) {
		if (segment[i].p_type == PT_LOAD)
			bias = (unsigned long)base - segment[i].p_vaddr;
		if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(base + segment[i].p_offset);
	}
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		const void *where = (const void *)(bias + dynamic->d_un.d_ptr);

		if (dynamic->d_tag == DT_SYMTAB)
			symbols = where;
		else if (dynamic->d_tag == DT_STRTAB)
			names = where;
		else if (dynamic->d_tag == DT_HASH)
			hash = where;
	}
	check(symbols && names, "the vDSO has no symbol table");
	/* The string table follows the symbols where there is no hash table that tells their number. */
	size_t count = hash ? hash[1] : (size_t)((const Elf64_Sym *)names - symbols);
	for (size_t i = 0; i < count; i++)
		if (!strcmp(names + symbols[i].st_name, name))
			return (void *)(bias + symbols[i].st_value);
	return NULL;
}

#endif
