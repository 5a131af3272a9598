-- The example V1: what an ORM (Prisma 5) makes of a school model in which teachers, parents and students
-- each have their own login. Table and column names, TEXT cuid keys, TIMESTAMP(3), "updatedAt" without a
-- default and the implicit join tables are as Prisma writes them, because that is what real V1s look like.
--
-- The file runs from top to bottom in psql. `v1v2 sample` runs it in its three parts, split at the lines that
-- begin with "-- part": the data goes in after part 1, and part 3 is left out with --orphans.

-- part 1: types and tables

CREATE TYPE "Sex" AS ENUM ('MALE', 'FEMALE');

CREATE TABLE "School" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "code" TEXT NOT NULL,
    "email" TEXT,
    "phone" TEXT,
    "address" TEXT,
    "country" TEXT,
    "curriculum" TEXT,
    "adminName" TEXT,
    "adminEmail" TEXT,
    "adminPhone" TEXT,
    "isActive" BOOLEAN NOT NULL DEFAULT true,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL
);

CREATE TABLE "Teacher" (
    "id" TEXT NOT NULL,
    "schoolId" TEXT NOT NULL,
    "employeeNo" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "email" TEXT,
    "phone" TEXT,
    "password" TEXT NOT NULL,
    "address" TEXT,
    "sex" "Sex",
    "birthday" TIMESTAMP(3),
    "qualification" TEXT,
    "hireDate" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL
);

-- Parents and students did not have to choose a password; then the column is NULL and they never logged in.
CREATE TABLE "Parent" (
    "id" TEXT NOT NULL,
    "schoolId" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "email" TEXT,
    "phone" TEXT,
    "password" TEXT,
    "address" TEXT,
    "occupation" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL
);

CREATE TABLE "Student" (
    "id" TEXT NOT NULL,
    "schoolId" TEXT NOT NULL,
    "admissionNo" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "email" TEXT,
    "phone" TEXT,
    "password" TEXT,
    "address" TEXT,
    "sex" "Sex",
    "birthday" TIMESTAMP(3),
    "gradeLevel" TEXT,
    "className" TEXT,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL
);

CREATE TABLE "Subject" (
    "id" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "code" TEXT NOT NULL,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL
);

-- "A" is the model that comes first in the alphabet.
CREATE TABLE "_ParentToStudent" (
    "A" TEXT NOT NULL,
    "B" TEXT NOT NULL
);

CREATE TABLE "_SubjectToTeacher" (
    "A" TEXT NOT NULL,
    "B" TEXT NOT NULL
);

-- part 2: keys, indexes and foreign keys (after the data, where they are several times cheaper)

ALTER TABLE "School" ADD CONSTRAINT "School_pkey" PRIMARY KEY ("id");
ALTER TABLE "Teacher" ADD CONSTRAINT "Teacher_pkey" PRIMARY KEY ("id");
ALTER TABLE "Parent" ADD CONSTRAINT "Parent_pkey" PRIMARY KEY ("id");
ALTER TABLE "Student" ADD CONSTRAINT "Student_pkey" PRIMARY KEY ("id");
ALTER TABLE "Subject" ADD CONSTRAINT "Subject_pkey" PRIMARY KEY ("id");

CREATE UNIQUE INDEX "School_code_key" ON "School"("code");
CREATE UNIQUE INDEX "Teacher_employeeNo_key" ON "Teacher"("employeeNo");
-- Unique, but case and spaces count: "A.Bello@school.example" and "a.bello@school.example " are two rows here.
CREATE UNIQUE INDEX "Teacher_email_key" ON "Teacher"("email");
CREATE UNIQUE INDEX "Student_admissionNo_key" ON "Student"("admissionNo");
CREATE UNIQUE INDEX "Subject_code_key" ON "Subject"("code");

CREATE UNIQUE INDEX "_ParentToStudent_AB_unique" ON "_ParentToStudent"("A", "B");
CREATE INDEX "_ParentToStudent_B_index" ON "_ParentToStudent"("B");
CREATE UNIQUE INDEX "_SubjectToTeacher_AB_unique" ON "_SubjectToTeacher"("A", "B");
CREATE INDEX "_SubjectToTeacher_B_index" ON "_SubjectToTeacher"("B");

ALTER TABLE "Parent" ADD CONSTRAINT "Parent_schoolId_fkey"
    FOREIGN KEY ("schoolId") REFERENCES "School"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "_ParentToStudent" ADD CONSTRAINT "_ParentToStudent_B_fkey"
    FOREIGN KEY ("B") REFERENCES "Student"("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "_SubjectToTeacher" ADD CONSTRAINT "_SubjectToTeacher_A_fkey"
    FOREIGN KEY ("A") REFERENCES "Subject"("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "_SubjectToTeacher" ADD CONSTRAINT "_SubjectToTeacher_B_fkey"
    FOREIGN KEY ("B") REFERENCES "Teacher"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- part 3: the foreign keys that a V1 with orphans lacks
--
-- Orphans exist where somebody once dropped a constraint (to import a dump, to delete a school in a hurry) and
-- never put it back. So with --orphans these are never made, and schools and parents that are referred to are gone.

ALTER TABLE "Teacher" ADD CONSTRAINT "Teacher_schoolId_fkey"
    FOREIGN KEY ("schoolId") REFERENCES "School"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "Student" ADD CONSTRAINT "Student_schoolId_fkey"
    FOREIGN KEY ("schoolId") REFERENCES "School"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
ALTER TABLE "_ParentToStudent" ADD CONSTRAINT "_ParentToStudent_A_fkey"
    FOREIGN KEY ("A") REFERENCES "Parent"("id") ON DELETE CASCADE ON UPDATE CASCADE;
