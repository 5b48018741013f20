//: edit: another size of a module's state
//: refused module-def: the module was made from its definition when it was imported
//: ask: ext.__name__
#include "ext.h"

static struct PyModuleDef definition = { //!
    PyModuleDef_HEAD_INIT,
    .m_name = "ext",
//-    .m_size = -1,
//+    .m_size = 16,
};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
