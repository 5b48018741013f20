//: edit: the documentation of a module
//: refused module-def: the module was made from its definition when it was imported
//: ask: ext.__doc__
#include "ext.h"

static struct PyModuleDef definition = { //!
    PyModuleDef_HEAD_INIT,
    .m_name = "ext",
//-    .m_doc = "Shapes.",
//+    .m_doc = "Shapes and colours.",
    .m_size = -1,
};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
